"""Ideas out of an answer: JSON where it is JSON, else the items of a list, else one paragraph as one idea."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kernelgrove.model import Idea

from . import clean, structured
from .problems import Unreadable

#: What an idea may be about. Anything else is put under "other".
CATEGORIES = ("memory", "tiling", "fusion", "occupancy", "launch", "precision", "algorithm", "other")

#: An idea is a sentence or a few; a text beyond this is no idea, or holds the program already.
MAX_TEXT = 2000

_ITEM = re.compile(
    r"^\s{0,6}(?:[-*+•]\s+|\(?\d{1,2}[.):]\s+|#{1,4}\s+(?:idea\s*)?\d{0,2}[.:)]?\s*|\*{0,2}idea\s+\d{1,2}\*{0,2}\s*[.:)-]\s*)"
    r"(?P<text>\S.*)$",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\W*(rationale|why|reason|category|type|idea|text|title)\W*?:\s*(.*)$", re.IGNORECASE)
_TEXT_KEYS = ("text", "idea", "description", "optimization", "optimisation", "title", "name", "summary")
_WHY_KEYS = ("rationale", "why", "reason", "reasoning", "explanation", "expected_effect", "justification")
_KIND_KEYS = ("category", "type", "kind", "tag")


def ideas(answer: str, count: int) -> tuple[tuple[Idea, ...], str]:
    """Up to *count* ideas in *answer*, none twice, and a note (empty, or why there are fewer). Raises Unreadable."""
    text = clean.without_reasoning(clean.plain(answer))
    if not text.strip():
        raise Unreadable(
            "The answer is empty." if not answer.strip() else "The answer holds reasoning alone, and no idea."
        )
    found = _from_json(text)
    if found is None:
        found = _from_list(text)
    kept = _distinct(found)
    if not kept:
        raise Unreadable(f"The answer has no idea in it: it begins with {clean.clip(text, 60)!r}.")
    kept = kept[:count]
    note = "" if len(kept) == count else f"{len(kept)} of the {count} ideas asked for"
    return tuple(kept), note


def _distinct(found: list[Idea]) -> list[Idea]:
    kept: dict[str, Idea] = {}
    for idea in found:
        if 3 <= len(idea.text) <= MAX_TEXT and any(c.isalpha() for c in idea.text):
            kept.setdefault(" ".join(idea.text.casefold().split()).rstrip("."), idea)
    return list(kept.values())


# ------------------------------------------------------------------------------------------------------ JSON


def _from_json(text: str) -> list[Idea] | None:
    """The ideas of the first JSON value that holds any; None where there is none."""
    for value in structured.values(text):
        found = [idea for item in _items(value) if (idea := _idea(item)) is not None]
        if found:
            return found
    return None


def _items(value: Any) -> Iterator[Any]:
    """What may be ideas: the elements of an array, or of the array that an object holds."""
    if isinstance(value, list):
        for item in value:
            yield from _items(item) if isinstance(item, list) else (item,)
        return
    if not isinstance(value, Mapping):
        return
    lists = [inner for inner in value.values() if isinstance(inner, list)]
    if "ideas" in value and isinstance(value["ideas"], list):
        yield from _items(value["ideas"])
    elif _text_of(value, _TEXT_KEYS):
        yield value
    elif lists:
        yield from _items(lists[0])
    else:  # {"1": {...}, "2": {...}}
        yield from (inner for inner in value.values() if isinstance(inner, Mapping | str))


def _idea(item: Any) -> Idea | None:
    if isinstance(item, str):
        return _made(item, "", "")
    if isinstance(item, Mapping):
        inner = item.get("idea")
        if isinstance(inner, Mapping):
            item = inner
        return _made(_text_of(item, _TEXT_KEYS), _text_of(item, _WHY_KEYS), _text_of(item, _KIND_KEYS))
    return None


def _text_of(item: Mapping[Any, Any], keys: tuple[str, ...]) -> str:
    lowered = {str(key).casefold(): value for key, value in item.items()}
    for key in keys:
        value = lowered.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return " ".join(value)
    return ""


def _made(text: str, why: str, kind: str) -> Idea | None:
    text, why = _unmarked(text), _unmarked(why)
    if not text:
        return None
    word = kind.strip().casefold()
    return Idea(text, why, word if word in CATEGORIES else "other")


def _unmarked(text: str) -> str:
    """Without Markdown emphasis and line breaks; ``*`` between spaces is multiplication and stays."""
    text = re.sub(r"(?<![\w*])[*_]{1,3}(?=\S)(.+?)(?<=\S)[*_]{1,3}(?![\w*])", r"\1", text)
    return " ".join(text.split()).strip(" -–—:")


# ------------------------------------------------------------------------------------------------------ prose


def _from_list(text: str) -> list[Idea]:
    """The items of a numbered or bulleted list, with what is indented or labelled below each; else the whole text
    as one idea, where it is short enough to be one."""
    items: list[list[str]] = []
    margin = 0
    for line in text.split("\n"):
        match = _ITEM.match(line)
        indent = len(line) - len(line.lstrip())
        if match is not None and not _LABEL.match(match["text"]) and (not items or indent <= margin + 1):
            items.append([match["text"]])
            margin = indent
        elif items and line.strip():
            items[-1].append(match["text"] if match is not None else line)
    found = [idea for lines in items if (idea := _from_lines(lines)) is not None]
    if found:
        return found
    paragraph = text.strip()
    if "```" in paragraph or len(paragraph) > MAX_TEXT or paragraph.startswith(("{", "[", "<")):
        return []
    single = _from_lines(paragraph.split("\n"))
    return [single] if single is not None and len(single.text.split()) >= 4 else []


def _from_lines(lines: list[str]) -> Idea | None:
    parts: dict[str, list[str]] = {"text": []}
    at = "text"
    for line in lines:
        label = _LABEL.match(line)
        if label is not None:
            word = label[1].casefold()
            at = "kind" if word in ("category", "type") else "text" if word in ("idea", "text", "title") else "why"
            line = label[2]
        parts.setdefault(at, []).append(line.strip())
    text, why = " ".join(parts["text"]).strip(), " ".join(parts.get("why", [])).strip()
    if not why and len(parts["text"]) > 1:
        text, why = parts["text"][0], " ".join(parts["text"][1:]).strip()
    return _made(text, why, " ".join(parts.get("kind", [])).strip(" *_."))
