"""JSON out of an answer: as asked for, in a fence, inside prose, with the slips that models make, or cut short."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from . import clean
from .fences import blocks

_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_LINE_COMMENT = re.compile(r"^\s*(?://|#).*$", re.MULTILINE)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*)(\s*:)")


def values(text: str) -> Iterator[Any]:
    """Every JSON object or array that can be made out of *text*, the likeliest first. *text* is plain, with its
    reasoning taken out."""
    for block in blocks(text):
        if block.language in ("", "json", "json5", "jsonc", "javascript", "js", "text"):
            yield from _read(block.text)
    yield from _read(text)
    for piece in _balanced(text):
        yield from _read(piece)


def _read(text: str) -> Iterator[Any]:
    text = text.strip()
    if not text.startswith(("{", "[")):
        return
    for candidate in dict.fromkeys((text, _tidied(text), clean.ascii_typography(_tidied(text)))):
        try:
            yield json.loads(candidate, strict=False)
            return
        except (ValueError, RecursionError):
            pass
    try:
        found = ast.literal_eval(clean.ascii_typography(text))  # single quotes, True, None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return
    if isinstance(found, dict | list):
        yield found


def _tidied(text: str) -> str:
    return _BARE_KEY.sub(r'\1"\2"\3', _TRAILING_COMMA.sub(r"\1", _LINE_COMMENT.sub("", text)))


def _balanced(text: str) -> Iterator[str]:
    """Outermost ``{…}`` and ``[…]`` in prose; of one that is never closed, each complete object inside it."""
    at = 0
    while at < len(text):
        if text[at] not in "{[":
            at += 1
            continue
        end = _end(text, at)
        if end is None:
            yield from _complete_objects(text, at + 1)
            return
        yield text[at:end]
        at = end


def _complete_objects(text: str, at: int) -> Iterator[str]:
    found: list[str] = []
    while True:
        at = text.find("{", at)
        if at < 0:
            break
        end = _end(text, at)
        if end is None:
            at += 1
            continue
        found.append(text[at:end])
        at = end
    if found:
        yield "[" + ",".join(found) + "]"


def _end(text: str, at: int) -> int | None:
    """Where the bracket at *at* is closed; strings are skipped."""
    depth, inside, escaped = 0, False, False
    for index in range(at, len(text)):
        char = text[index]
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return index + 1
    return None
