"""Ratings out of an answer: one number from 0 to 10 for each idea asked about, in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import clean, structured
from .problems import Unreadable

#: The scale that is asked for; what is kept lies between 0 and 1.
BEST = 10.0

_LINE = re.compile(
    r"^\W*(?:idea\s*)?#?(?P<number>\d{1,3})\W*[:.)=-]\W*(?:.*?[:=\s])?(?P<score>-?\d+(?:\.\d+)?)\s*(?:/\s*10)?\W*$",
    re.IGNORECASE,
)
_SCORE_KEYS = ("rating", "score", "value", "points")


def ratings(answer: str, count: int) -> tuple[float, ...]:
    """*count* ratings, each from 0 (hopeless) to 1. Raises Unreadable for another number of them or another scale."""
    text = clean.without_reasoning(clean.plain(answer))
    if not text.strip():
        raise Unreadable("The answer is empty." if not answer.strip() else "The answer holds reasoning alone.")
    found = _from_json(text) or _from_lines(text)
    if not found:
        raise Unreadable(f"The answer has no ratings in it: it begins with {clean.clip(text, 60)!r}.")
    if len(found) != count:
        raise Unreadable(f"The answer has {len(found)} ratings, and {count} ideas were to be rated.")
    for number, rating in enumerate(found, 1):
        if not 0 <= rating <= BEST:
            raise Unreadable(f"Rating {number} is {rating:g}: ratings go from 0 to {BEST:g}.")
    return tuple(rating / BEST for rating in found)


def _from_json(text: str) -> list[float]:
    for value in structured.values(text):
        inner = value
        if isinstance(value, Mapping):
            lists = [v for v in value.values() if isinstance(v, list)]
            inner = value.get("ratings", lists[0] if lists else list(value.values()))
        if isinstance(inner, Mapping):
            inner = list(inner.values())
        if isinstance(inner, list):
            found = [_number(item) for item in inner]
            if found and all(number is not None for number in found):
                return [number for number in found if number is not None]
    return []


def _number(item: Any) -> float | None:
    if isinstance(item, Mapping):
        item = next((item[key] for key in _SCORE_KEYS if key in item), None)
    if isinstance(item, str):
        match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*(?:/\s*10)?\s*", item)
        item = float(match[1]) if match else None
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    number = float(item)
    return number if number == number and abs(number) != float("inf") else None


def _from_lines(text: str) -> list[float]:
    """``1: 7`` or ``Idea 2 - 6.5/10``, a line each; numbers must count up from 1."""
    found: list[float] = []
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is not None and int(match["number"]) == len(found) + 1:
            found.append(float(match["score"]))
    return found
