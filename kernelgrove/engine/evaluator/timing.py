"""From a worker's claims and the judge's own clock to one figure. Pure arithmetic; standard library only.

A worker times each call with CUDA events, L2 flushed before it. That is a claim: the candidate shares the process.
The judge times the whole loop from outside. A kernel of 16 elements in the same loop tells what an iteration costs
around its call (the flush, launch gaps), so ``bound = wall / n - around`` is what a call can have taken at least
on average, and the figure is ``max(claim, bound - delta)``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: What bound and claim may differ by on an honest kernel. Over 36 honest kernels of 0.13 to 0.30 ms on an H200 the
#: bound lay 8 to 16 µs above the claim: at most 7.5 µs more than 5 % of it (docs/benchmarks/main-job-h200.md).
DELTA_SHARE = 0.05
DELTA_MS = 0.010


@dataclass(frozen=True)
class Round:
    """One timed loop: claims of each call in ms, and the judge's wall clock over all of them in ms."""

    claims: tuple[float, ...]
    wall_ms: float

    @property
    def per_call_ms(self) -> float:
        return self.wall_ms / len(self.claims)


@dataclass(frozen=True)
class Figure:
    """``time_ms`` is the score; ``stats`` describes the claims; ``detail`` says how the two clocks agreed."""

    time_ms: float
    stats: dict[str, float]
    detail: dict[str, Any]


def describe(samples: Sequence[float]) -> dict[str, float]:
    """mean, std, min, max, median in ms, and n, as the seed prints them."""
    return {
        "mean": statistics.fmean(samples),
        "std": statistics.stdev(samples) if len(samples) > 1 else 0.0,
        "min": min(samples),
        "max": max(samples),
        "median": statistics.median(samples),
        "n": len(samples),
    }


def figure(rounds: Sequence[Round], around_ms: float) -> Figure:
    """The score of one candidate from its rounds. *around_ms*: what an iteration costs around its call."""
    claims = [claim for timed in rounds for claim in timed.claims]
    stats = describe(claims)
    claim = stats["median"]
    # The mean of the claims is what the wall clock saw; a few slow calls must not make an honest kernel a liar.
    slack = max(stats["mean"] - claim, 0.0)
    bound = min(timed.per_call_ms for timed in rounds) - around_ms - slack
    delta = DELTA_SHARE * claim + DELTA_MS
    score = max(claim, bound - delta)
    detail = {
        "claim_ms": round(claim, 6),
        "bound_ms": round(bound, 6),
        "delta_ms": round(delta, 6),
        "around_ms": round(around_ms, 6),
        "clock": "events" if score == claim else "judge",
    }
    return Figure(score, stats, detail)


def repetitions(estimate_ms: float, flush_ms: float, wanted: int, budget_ms: float) -> int:
    """How many calls fit the budget: at least 10, at most *wanted*."""
    return max(10, min(wanted, int(budget_ms / max(estimate_ms + flush_ms, 1e-3))))
