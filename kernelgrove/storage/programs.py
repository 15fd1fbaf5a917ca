"""Which texts are the same program: the key under which source is stored once.

Two texts are one program where they differ in comments, blank lines, the width of indentation, line breaks inside of
brackets and blanks beside brackets and operators. It is worked out from the text alone, so that every version of
Python finds the same, and in a quarter of the time that parsing takes: recording a program is on the store's hot path.
Two texts that may mean different things are never taken for one; two that mean the same may be taken for two
(``x`` and ``(x)``), which costs one evaluation and nothing else.
"""

from __future__ import annotations

import ast
import re
import string
import warnings
from itertools import pairwise

from ..model import digest
from .columns import clean

#: Source longer than this is compared as text: megabytes of generated code would hold up the search.
LONGEST_READ = 500_000

# A string (raw ones end at the same quote as others), or a comment with the blanks before it.
_QUOTED = re.compile(
    r'''(?s)"""(?:[^"\\]++|\\.|"(?!""))*+"""|\'\'\'(?:[^'\\]++|\\.|'(?!''))*+\'\'\''''
    r"""|"(?:[^"\\\n]++|\\.)*+"|'(?:[^'\\\n]++|\\.)*+'|\#[^\n]*+"""
)
_FORMATTED = re.compile(r"(?i)\b[rb]?[ft][rb]?$")
_STRING = "\x00"  # stands for a string: ``clean`` leaves no NUL in a text
_BLANKS = re.compile(r"[ \t\f]+")


def _needless() -> frozenset[str]:
    """What may stand to the left and right of a blank that keeps no two tokens apart, as two characters. None is
    needless between two operators, nor between an e, which may end a number, and a sign."""
    words = string.ascii_letters + string.digits + "_" + _STRING
    brackets, operators, all_ = "()[]{},;", "-+*/%=<>&|^~@:", "".join(map(chr, range(33, 127))) + _STRING
    pairs = {a + b for a in brackets for b in all_} | {a + b for a in all_ for b in brackets}
    pairs |= {a + b for a in operators for b in words}
    pairs |= {a + b for a in words for b in operators + "!" if a not in "eE" or b not in "-+"}
    return frozenset(pairs)


_NEEDLESS = _needless()


def normalise(code: str) -> str:
    """*code* without what cannot change what it does: comments and formatting.

    Text that cannot be told apart into lines, strings and brackets stays as it is, less trailing blanks.
    """
    text = clean(code).replace("\r\n", "\n").replace("\r", "\n")
    if len(text) <= LONGEST_READ:
        found = _told_apart(text)
        if found is not None:
            return found
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _told_apart(text: str) -> str | None:
    """A line of *text* a line, its depth as tabs; None where that cannot be told without parsing."""
    strings: list[str] = []

    def taken(match: re.Match[str]) -> str:
        found = match[0]
        if found[0] == "#":
            return ""
        # Quotes nested in a format string end it here, and not in Python: what follows would be read as code.
        if "{" in found and _FORMATTED.search(text, max(0, match.start() - 3), match.start()):
            plain = found.replace("{{", "").replace("}}", "")
            if plain.count("{") != plain.count("}"):
                raise _Nested
        strings.append(found)
        return _STRING

    try:
        bare = _QUOTED.sub(taken, text)
    except _Nested:
        return None
    if '"' in bare or "'" in bare:  # a string without an end
        return None
    lines = _logical(bare.replace("\\\n", " "))
    if lines is None:
        return None
    words = "\n".join(lines).replace(", ", ",").split(" ")
    closed = [b if a[-1] + b[0] in _NEEDLESS else " " + b for a, b in pairwise(words)]
    parts = "".join(words[:1] + closed).split(_STRING)
    return "".join(part for pair in zip(parts, [*strings, ""], strict=True) for part in pair)


class _Nested(Exception):
    pass


def _logical(bare: str) -> list[str] | None:
    """Lines with those inside of brackets joined and blanks made one; None where brackets or indentation are at odds
    with each other."""
    found: list[str] = []
    levels = [0]
    depth = 0
    for line in bare.split("\n"):
        words = line.strip(" \t\f")
        if "  " in words or "\t" in words or "\f" in words:
            words = _BLANKS.sub(" ", words)
        if not words:
            continue
        if depth:
            found[-1] += " " + words
        else:
            indent = len(line) - len(line.lstrip(" "))
            if line[indent] in "\t\f":
                return None
            while indent < levels[-1]:
                levels.pop()
            if indent > levels[-1]:
                levels.append(indent)
            found.append("\t" * (len(levels) - 1) + words)
        depth += words.count("(") - words.count(")")
        if "[" in words or "]" in words:
            depth += words.count("[") - words.count("]")
        if "{" in words or "}" in words:
            depth += words.count("{") - words.count("}")
        if depth < 0:
            return None
    return None if depth else found


def program_hash(code: str) -> str:
    """SHA-256 of the normalised source, 64 hex digits: the program's key."""
    return digest(normalise(code))


def hash_of_schema_1(code: str) -> str:
    """The key that files of schema 1 gave a program, and keep: of the program parsed and printed again. It depends on
    the minor version of Python."""
    text = clean(code).replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in a candidate are its own affair
            return digest(ast.unparse(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return digest("\n".join(line.rstrip() for line in text.split("\n")).strip("\n"))
