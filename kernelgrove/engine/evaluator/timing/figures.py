"""From a worker's claims and the judge's own clock to one figure. Pure arithmetic; standard library only.

Two kinds of timing, both described in docs/evaluation.md:

- *screened*: CUDA events around each call, L2 flushed before it, the judge's clock around the loop as a bound;
- *sealed*: chunks of calls on inputs that are complete only once the judge's clock runs. A stalled stream keeps the
  host out of the way, and what a worker that computes nothing takes for the same chunk is subtracted.

A worker's events are a claim: the candidate shares its process. It stands where it is no more than *delta* under what
the judge's clock allows; else the bound is the score, so that a claim out of reach gains nothing.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: Screened: what bound and claim may differ by on an honest kernel. Over 36 honest kernels of 0.13 to 0.30 ms on an
#: H200 the bound lay 8 to 16 µs above the claim: at most 7.5 µs more than 5 % of it (docs/benchmarks/main-job-h200.md).
DELTA_SHARE, DELTA_MS, DELTA_MOST = 0.05, 0.010, 0.25

#: Sealed: a share of the claim, what a chunk's wall clock is uncertain by (two changes of context), a gap a call; and a
#: share of the bound that no delta exceeds: a claim is believed as far as the clock can vouch for it.
SEALED_SHARE, SEALED_CHUNK_MS, SEALED_CALL_MS, SEALED_MOST = 0.02, 0.100, 0.0015, 0.15

#: Empty: so much more than the least that was ever seen of a layout is believed, of a chunk and of a call alone; or
#: this share more.
EMPTY_MS, EMPTY_ALONE_MS, EMPTY_SHARE = 0.2, 0.02, 0.03

#: Of the claim, at most: what slow calls among others are granted.
SKEW_MOST = 0.02

#: No call of N in a chunk is shorter than this over N, whatever is claimed: changes of context hide as much.
RESOLUTION_MS = 0.2

#: Serial: calls that go through one by one. What an honest one may take longer than it claims to: at most 7 µs were
#: seen, and 5.4 µs over the share (docs/benchmarks/evaluator-h200.md). Where it waits for its stream, its host is
#: seen at work (57 µs more, for 22 launches).
SERIAL_SHARE, SERIAL_MS, SERIAL_HOST_MS = 0.05, 0.01, 0.1

_RESAMPLES = 1000


@dataclass(frozen=True)
class Round:
    """One timed loop: claims of each call in ms, and the judge's wall clock over all of them in ms."""

    claims: tuple[float, ...]
    wall_ms: float

    @property
    def per_call_ms(self) -> float:
        return self.wall_ms / len(self.claims)


@dataclass(frozen=True)
class Chunk(Round):
    """A sealed chunk. *empty_ms*: the judge's wall clock over as many calls of a worker that computes nothing.
    *least_ms*: what a call of it takes at least, whatever the clocks say. *slack_ms*: what a call that goes through
    alone may take longer than its claim, besides a share; *cold*: whether most of its inputs were in no cache."""

    empty_ms: float = 0.0
    least_ms: float = 0.0
    slack_ms: float = SERIAL_MS
    cold: bool = False

    @property
    def bound_ms(self) -> float:
        return max(0.0, (self.wall_ms - self.empty_ms) / len(self.claims))


@dataclass(frozen=True)
class Figure:
    """``time_ms`` is the score, ``interval`` its 95 % interval; ``claim_ms`` is the claims' ``middle``, and ``stats``
    describes them; ``detail`` says how the clocks agreed."""

    time_ms: float
    claim_ms: float
    stats: dict[str, float]
    detail: dict[str, Any]
    interval: tuple[float, float] | None = None


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


def middle(samples: Sequence[float]) -> float:
    """Their interquartile mean: of the middle half of them. As deaf to a few slow calls as the median. But where calls
    fall into two groups of about the same size, as a GPU's do (``inside/parity.py``: 35.4 and 36.1 µs), the median lies
    in the gap between them, and jumps."""
    ordered = sorted(samples)
    cut = len(ordered) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def figure(rounds: Sequence[Round], around_ms: float) -> Figure:
    """The screened score from its rounds. *around_ms*: what an iteration of the loop costs around its call."""
    claims = [claim for timed in rounds for claim in timed.claims]
    claim = middle(claims)
    bound = min(timed.per_call_ms for timed in rounds) - around_ms
    delta = DELTA_SHARE * claim + DELTA_MS + _skew(claims, claim)
    score, detail = _score(claim, bound, min(delta, DELTA_MOST * max(bound, 0.0)))
    detail["around_ms"] = round(around_ms, 6)
    interval = bootstrap([middle(timed.claims) for timed in rounds], score / claim)
    return Figure(score, claim, describe(claims), detail, interval)


def sealed(chunks: Sequence[Chunk], serial: Sequence[Chunk] = ()) -> Figure:
    """The sealed score. *serial*: chunks of one call each, the next let go only after the last was handed over.

    One launch that serves many calls at once lowers the chunks' claim and bound alike; it cannot lower the serial one.
    """
    claims = [claim for chunk in chunks for claim in chunk.claims]
    claim = middle(claims)
    bound = statistics.median(chunk.bound_ms for chunk in chunks)
    calls = statistics.median(len(chunk.claims) for chunk in chunks)
    delta = SEALED_SHARE * claim + SEALED_CHUNK_MS / calls + SEALED_CALL_MS + _skew(claims, claim)
    score, detail = _score(claim, bound, min(delta, SEALED_MOST * max(bound, 0.0)))
    least = max(RESOLUTION_MS / calls, statistics.median(chunk.least_ms for chunk in chunks))
    if score < least:
        score, detail["clock"] = least, "resolution"
    if len(serial) > 1:
        alone = alone_ms(serial)
        delta = serial_delta(claim, serial)
        detail |= {"serial_ms": round(alone, 6), "serial_delta_ms": round(delta, 6)}
        if alone - delta > score:
            score, detail["clock"] = alone, "serial"
    detail |= {"chunks": len(chunks), "calls_a_chunk": int(calls)}
    interval = bootstrap([middle(chunk.claims) for chunk in chunks], score / claim)
    return Figure(score, claim, describe(claims), detail, interval)


def alone_ms(serial: Sequence[Chunk]) -> float:
    """What a call alone takes, of two chunks or more: their lower quartile, which errs to the kind side. Of those with
    cold inputs or of the others: what is more."""
    found = [[chunk.wall_ms - chunk.empty_ms for chunk in serial if chunk.cold is cold] for cold in (False, True)]
    # Of two or three values the quartile lies under all of them, the further the more they differ.
    return max(max(min(walls), statistics.quantiles(walls, n=4)[0]) for walls in found if len(walls) > 1)


def serial_delta(claim_ms: float, serial: Sequence[Chunk]) -> float:
    """What calls that go through alone may take longer than their claim, in ms."""
    return SERIAL_SHARE * claim_ms + max(chunk.slack_ms for chunk in serial)


def _skew(claims: Sequence[float], claim: float) -> float:
    """What the mean of the claims, which the wall clock saw, lies above their middle: a few slow calls must not make an
    honest kernel a liar. Not all of it: who claims four fifths for four calls of five and the rest for the fifth agrees
    with the wall clock too."""
    return min(max(statistics.fmean(claims) - claim, 0.0), SKEW_MOST * claim)


def _score(claim: float, bound: float, delta: float) -> tuple[float, dict[str, Any]]:
    """The claim where the judge's clock allows it, else the bound; and how the two agreed."""
    score = claim if claim >= bound - delta else bound
    figures = {"claim_ms": claim, "bound_ms": bound, "delta_ms": delta}
    detail: dict[str, Any] = {key: round(value, 6) for key, value in figures.items()}
    return score, {**detail, "clock": "events" if score == claim else "judge"}


def bootstrap(
    values: Sequence[float],
    scale: float = 1.0,
    statistic: Callable[[Sequence[float]], float] = statistics.median,
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of *statistic* over *values*, times *scale* (Efron 1979). The same
    values give the same interval."""
    if len(values) < 2:
        return values[0] * scale, values[0] * scale
    rng = random.Random(len(values))
    found = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return found[int(0.025 * _RESAMPLES)] * scale, found[int(0.975 * _RESAMPLES) - 1] * scale


@dataclass(frozen=True)
class Ratio:
    """baseline ÷ candidate from paired chunks: the median of their log-ratios, and its 95 % interval."""

    value: float
    interval: tuple[float, float]

    @property
    def half_width(self) -> float:
        """Of the interval, relative: 0.01 is 1 %."""
        return (math.log(self.interval[1]) - math.log(self.interval[0])) / 2


def ratio(pairs: Sequence[tuple[Round, Round]]) -> Ratio:
    """*pairs* of (baseline, candidate), each timed next to each other."""
    logs = [math.log(middle(b.claims) / middle(c.claims)) for b, c in pairs]
    low, high = bootstrap(logs)
    return Ratio(math.exp(statistics.median(logs)), (math.exp(low), math.exp(high)))


def repetitions(estimate_ms: float, flush_ms: float, wanted: int, budget_ms: float) -> int:
    """How many calls fit the budget: at least 10, at most *wanted*."""
    return max(10, min(wanted, int(budget_ms / max(estimate_ms + flush_ms, 1e-3))))


def calls_a_chunk(estimate_ms: float, aim_ms: float, set_bytes: int, memory_bytes: int, queue: int) -> int:
    """How many calls go into one sealed chunk: *aim_ms* of work, as far as inputs and outputs of all of them
    (*set_bytes* each) fit *memory_bytes* and their launches the stream's queue (at most *queue* calls)."""
    wanted = math.ceil(aim_ms / max(estimate_ms, 1e-4))
    return max(1, min(wanted, memory_bytes // max(set_bytes, 1) - 1, queue))
