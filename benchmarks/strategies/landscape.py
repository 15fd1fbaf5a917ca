"""What a landscape answers, whatever it is made from. The simulator and the peers know nothing else of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kernelgrove.model import Basis, Outcome


class Program(Protocol):
    """A program as a landscape knows it. Two with the same ``key`` are the same text."""

    @property
    def key(self) -> str: ...

    @property
    def fault(self) -> Outcome | None:
        """How its evaluation ends, None for one that is right."""


class Named(Protocol):
    """An idea as a landscape knows it: its words, and what it is about whatever the words."""

    @property
    def text(self) -> str: ...

    @property
    def category(self) -> str: ...

    @property
    def about(self) -> str: ...


@dataclass(frozen=True)
class Asked:
    """A request for ideas. ``here`` and ``anywhere`` say how often each thing was named before: at this program, in
    the search. ``thought``: the idea to think further on, with no code of its own yet. ``graft``: how likely an idea
    takes from one of ``others``."""

    base: Program | None
    count: int
    here: Mapping[str, int] = field(default_factory=dict)
    anywhere: Mapping[str, int] = field(default_factory=dict)
    others: tuple[Program, ...] = ()
    graft: float = 0.0
    thought: Named | None = None


@dataclass(frozen=True)
class Judged:
    """One evaluation. ``seconds``: how long it kept the device."""

    outcome: Outcome
    time_ms: float | None = None
    interval: tuple[float, float] | None = None
    timing: str | None = None
    seconds: float = 0.0


class Landscape(Protocol):
    """A problem with a proposer and an evaluator. Every draw is from the *rng* given; *who* is one of ``proposers``."""

    name: str
    held_out: bool
    basis: Basis
    reference_ms: float
    naive_ms: float  # what a search that found nothing is charged with
    optimum_ms: float
    proposers: tuple[str, ...]

    def translate(self, rng: random.Random, who: str) -> Program | None:
        """The reference straight to a program; None where the proposer has nothing."""

    def ideas(self, asked: Asked, rng: random.Random, who: str) -> Sequence[Named]:
        """Up to ``asked.count`` ideas, all different."""

    def carry_out(self, idea: Named, rng: random.Random, who: str) -> Program | None: ...

    def repair(self, failed: Program, before: int, rng: random.Random, who: str) -> Program | None:
        """*before* counts the repairs that led to *failed*."""

    def rate(self, ideas: Sequence[Named], rng: random.Random, who: str) -> Sequence[float]:
        """What each promises, from 0 to 1."""

    def time_ms(self, program: Program) -> float:
        """The true time of one that is right."""

    def judge(self, program: Program, best_ms: float | None, rng: random.Random) -> Judged:
        """Screened where its screened time cannot beat *best_ms*, else sealed."""

    def usd(self, kind: str, who: str, count: int = 1) -> float: ...

    def seconds(self, kind: str, rng: random.Random) -> float: ...

    def code(self, program: Program) -> str:
        """A text that looks like the program, for peers that compare code."""
