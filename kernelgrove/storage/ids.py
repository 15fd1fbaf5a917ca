"""Ids as people write them: ``s1`` a search, ``n12`` a node, ``i34`` an implementation, ``e56`` an evaluation,
``t7`` a job (a task)."""

from __future__ import annotations

import re

from ..errors import UsageError

#: letter -> what it names
KINDS = {"s": "search", "n": "node", "i": "implementation", "e": "evaluation", "t": "job"}

_ID = re.compile(r"([a-z])([1-9][0-9]{0,17})", re.IGNORECASE)


def show(kind: str, number: int) -> str:
    """``show("s", 1)`` is ``s1``."""
    return f"{kind}{number}"


def show_or_none(kind: str, number: int | None) -> str | None:
    return None if number is None else f"{kind}{number}"


def parse(text: str) -> tuple[str, int]:
    """``("i", 34)`` for ``i34``. Raises UsageError, which says what was expected."""
    match = _ID.fullmatch(text.strip())
    if match is None or match[1].lower() not in KINDS:
        raise UsageError(
            f"{text!r} is not an id.",
            "Ids look like s1 (search), n2 (node), i3 (implementation), e4 (evaluation) or t5 (job).",
        )
    return match[1].lower(), int(match[2])


def parse_as(kind: str, text: str) -> int:
    """The number in *text*, which must name a *kind* (one of ``KINDS``). Raises UsageError."""
    found, number = parse(text)
    if found != kind:
        article = "an" if found in "ie" else "a"
        raise UsageError(f"{text} is {article} {KINDS[found]}, not a {KINDS[kind]}.", f"Give an id like {kind}1.")
    return number
