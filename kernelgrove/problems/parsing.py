"""Python's parser, one thread at a time."""

from __future__ import annotations

import ast
import threading
import warnings

#: CPython 3.11 counts the depth of the trees that it makes once for all threads: two that parse at the same moment end
#: in "AST constructor recursion depth mismatch" (gh-106905). ``catch_warnings`` changes the process's filters.
_PARSING = threading.Lock()


def parse(source: str) -> ast.Module:
    """As ``ast.parse``, which it raises whatever that raises of; without its warnings, and safe in threads."""
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)
