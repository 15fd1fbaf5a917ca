"""What an idea is made of: a sentence, why, and the plans that carry it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelgrove.model import Idea

from .plan import Plan


@dataclass(frozen=True)
class Move:
    """An idea and the plans that carry it out, the most promising first."""

    idea: Idea
    plans: tuple[Plan, ...]


def move(text: str, rationale: str, category: str, plans: list[Plan]) -> Iterator[Move]:
    if plans:
        yield Move(Idea(text, rationale, category), tuple(plans))


def near(size: int) -> int:
    return max(128, min(size, 16384))


def near_warps(count: int) -> int:
    return max(1, min(count, 32))


def hints(base: Plan, which: str) -> Iterator[Move]:
    yield from move(
        f"Mark streamed loads and stores evict_first and reused operands evict_last{which}",
        "What is read once should not push weights, or rows that will be read again, out of L2.",
        "memory",
        [base.change(hints=True), base.change(hints=True, stages=4)],
    )
