"""Fenced blocks in an answer, as CommonMark has them and as models write them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

#: Opens a block: at the start of a line by rule; models also put it behind a sentence on the same line.
_OPEN = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[\w+#.-]*)[^\n`~]*$")
_CLOSE = re.compile(r"^(?P<before>.*?)[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*$")

PYTHON = frozenset({"", "python", "py", "python3", "triton", "code", "cuda", "ipython", "gpu"})


@dataclass(frozen=True)
class Block:
    """*language* as written, in lower case; *closed* is False where the text ends first."""

    language: str
    text: str
    closed: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks of *text* (Unix line ends) in order. One of its kind, as long or longer, closes a fence."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if opened is None:
            match = _OPEN.match(line)
            if match is not None and not _inline(line, match):
                opened, lines = match, []
            continue
        close = _CLOSE.match(line)
        if close is not None and _closes(opened["fence"], close["fence"]) and not _quoted(close["before"]):
            if close["before"].strip():
                lines.append(close["before"])
            found.append(_block(opened, lines, closed=True))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        found.append(_block(opened, lines, closed=False))
    return found


def _inline(line: str, match: re.Match[str]) -> bool:
    """``a ```span``` in a sentence`` opens nothing."""
    return match["fence"] in line[match.end("fence") :] or match["fence"] in match["before"]


def _closes(opening: str, closing: str) -> bool:
    return closing[0] == opening[0] and len(closing) >= len(opening)


def _quoted(before: str) -> bool:
    """A fence behind a comment sign or inside a string belongs to the code."""
    stripped = before.strip()
    return stripped.startswith("#") or stripped.count('"') % 2 == 1 or stripped.count("'") % 2 == 1


def _block(opened: re.Match[str], lines: list[str], *, closed: bool) -> Block:
    return Block(opened["info"].lower(), textwrap.dedent("\n".join(lines)).strip("\n"), closed)
