"""Text as language models send it, made plain: line ends, invisible characters, reasoning sections, typography.

Nothing here looks at what the text means; ``code`` and ``structured`` decide what to try when.
"""

from __future__ import annotations

import html
import re

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad\x00"))
_REASONING = "think|thinking|thought|reasoning|reflection|scratchpad|analysis"
_CLOSED = re.compile(rf"<({_REASONING})>.*?</\1>", re.DOTALL | re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{_REASONING})>", re.IGNORECASE)
_OPENING = re.compile(rf"\A\s*<(?:{_REASONING})>", re.IGNORECASE)

#: Typography that a word processor, or a model that imitates one, puts where a program needs ASCII.
_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("‐‑‒–—−", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u202f\u3000", " "),
        "…": "...",
        "×": "*",
        "＝": "=",
        "（": "(",
        "）": ")",
        "，": ",",
        "：": ":",
    }
)


def plain(text: str) -> str:
    """*text* with Unix line ends and no invisible characters."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)


def without_reasoning(text: str) -> str:
    """*text* without what a model thought aloud. One section that is never closed is all there is: nothing is left.

    Some servers send the end of a section without its beginning: what stands before the last such end is dropped.
    """
    text = _CLOSED.sub("", text)
    ends = list(_CLOSING.finditer(text))
    if ends:
        text = text[ends[-1].end() :]
    return "" if _OPENING.match(text) else text


def ascii_typography(text: str) -> str:
    """Quotes, dashes and blanks as ASCII. Only for text that cannot be read as it is: a string may hold them."""
    return text.translate(_TYPOGRAPHY)


def unescaped(text: str) -> str:
    """HTML entities as the characters they stand for."""
    return html.unescape(text)


def clip(text: str, length: int) -> str:
    """One line of at most *length* characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
