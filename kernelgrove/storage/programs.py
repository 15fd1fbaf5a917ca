"""Which texts are the same program: the key under which source is stored once."""

from __future__ import annotations

import ast
import threading
import warnings

from ..model import digest
from .columns import clean

#: Source longer than this is compared as text: parsing megabytes of generated code would hold up the search.
LONGEST_PARSED = 500_000

_warnings_lock = threading.Lock()  # catch_warnings changes the process's filters


def normalise(code: str) -> str:
    """*code* without what cannot change what it does: comments, formatting, line ends, trailing blanks.

    Text that does not parse keeps its comments. ``ast.unparse`` may differ between Python versions; the same text
    then counts as two programs, which costs one evaluation and nothing else.
    """
    text = clean(code).replace("\r\n", "\n").replace("\r", "\n")
    stripped = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
    if len(text) > LONGEST_PARSED:
        return stripped
    for _ in range(20):
        try:
            with _warnings_lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in a candidate are its own affair
                return ast.unparse(ast.parse(text))
        except SystemError:
            # CPython 3.11 shares the depth that ast.parse counts between threads: "recursion depth mismatch" when
            # another thread parses at the same moment. The text is not at fault.
            continue
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            break
    return stripped


def program_hash(code: str) -> str:
    """SHA-256 of the normalised source, 64 hex digits: the program's key."""
    return digest(normalise(code))
