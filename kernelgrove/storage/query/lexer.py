"""Text to tokens, and the one way in which a query is refused: a sentence that points at the place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import UsageError
from ..columns import clean

#: Longest query, characters. SQLite's own limits are far above what this can reach.
LONGEST = 20_000

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<operator>!=|<=|>=|=|<|>|~)
    |(?P<mark>[(),|])
    |(?P<word>[\w.:/+\-*%@\#$]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Token:
    kind: str  # string, operator, mark, word, end
    text: str  # a string's without its quotes
    position: int

    @property
    def word(self) -> str:
        """The word in lower case; empty for any other token, so that a quoted word is never a keyword."""
        return self.text.lower() if self.kind == "word" else ""


def fault(position: int, token: str, what: str, cure: str = "") -> UsageError:
    """*what* is wrong at *position* (from 0), where *token* stands (empty: at the end)."""
    at = f"at {shown(token)}" if token else "at its end"
    return UsageError(f"The query, column {position + 1}, {at}: {what}.", cure)


def shown(text: str) -> str:
    """*text* in quotes, on one line, cut at 40 characters."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def nearest(text: str, known: Iterable[str]) -> str:
    """``Did you mean speedup?``, or all there is where nothing is near."""
    listed = sorted(known)
    near = difflib.get_close_matches(text.lower()[:80], listed, n=2, cutoff=0.6)
    near = near or [name for name in listed if len(text) > 2 and name.startswith(text.lower()[:3])][:2]
    return f"Did you mean {' or '.join(near)}?" if near else f"There is: {', '.join(listed)}."


def tokens(text: str) -> list[Token]:
    """The tokens of *text*, an ``end`` last. Raises UsageError."""
    text = clean(text)
    if len(text) > LONGEST:
        raise UsageError(
            f"The query has {len(text)} characters, and {LONGEST} is the most.", "Use --sql-file for what is longer."
        )
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if text[at] in "\"'":
                raise fault(at, text[at:], "this string has no end", f"Close it with {text[at]}.")
            raise fault(at, text[at], "this character means nothing here", "Put text with such characters in quotes.")
        kind = str(match.lastgroup)
        if kind == "string":
            found.append(Token(kind, _ESCAPED.sub(r"\1", match[0][1:-1]), at))
        elif kind != "space":
            found.append(Token(kind, match[0], at))
        at = match.end()
    found.append(Token("end", "", len(text)))
    return found
