"""Confirmation: a candidate's sealed chunks and its baseline's in turn, until the ratio between them is known.

Both sit in workers of their own; the GPU is theirs alone meanwhile. What the clock finds is one figure with its
interval, and baseline ÷ candidate from neighbouring chunks, which drift of clocks and temperature hardly touches.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

from ..sittings.sitting import Again
from ..wire.protocol import ProtocolBreak
from ..workers.handle import WorkerDied, WorkerFailed, WorkerTimeout
from .empties import Still
from .figures import RESOLUTION_MS, Chunk, Figure, Ratio, middle, ratio, sealed
from .seats import Overestimated, Seat

#: Chunks of each side: at least, at most.
_LEAST, _MOST = 4, 6
#: Half the width of the ratio's 95 % interval at which timing ends early.
_NARROW = 0.01
#: Where the chunks do not bear a claim out, so many seconds later there are as many again: at once, and where the host
#: is slow for the moment, when it may no longer be.
_LATER_S = (0.0, 0.5, 1.0)
#: Times the least that a baseline ever took it is believed to take: whoever leaves something running while he stands
#: still would seem to be faster by it. And one that waits for its stream, whose host differs more.
_SLOWER, _SLOWER_HOST = 1.1, 1.5


class BaselineLost(Again):
    """The worker of a baseline failed, which is not the candidate's fault."""


@dataclass(frozen=True)
class Confirmed:
    """A sealed figure; baseline ÷ candidate by the claims alone, and the middle of both, in ms; None where there was
    no baseline. It holds once the candidate's ``pending`` comparisons are settled."""

    figure: Figure
    ratio: Ratio | None
    claim_ms: float
    baseline_ms: float | None


def confirm(
    candidate: Seat, baseline: Seat | None, allclose: float | None, quiet: Still, anew: bool = False
) -> Confirmed:
    """Time the candidate under seal, chunk by chunk in turn with the baseline. *quiet*: the candidate stands still, as
    what a speedup is over must not be slowed down by it, and memory that was freed before is cleared.

    Raises what ``Seat.chunk`` raises for the candidate; where it can be seated *anew*, Overestimated.
    """
    pairs: list[tuple[Chunk, Chunk]] = []
    own: list[Chunk] = []
    first = candidate.chunk(allclose, checked=0)  # finds out how many calls can be queued, and warms up
    claim_ms = statistics.median(first.claims)
    call_ms = max(claim_ms, first.bound_ms)
    if anew and candidate.is_too_small(call_ms):
        raise Overestimated(call_ms)
    serial = [] if candidate.sitting.trusted else candidate.serial(allclose, _at_most_ms(first))
    for _ in range(_MOST):
        with quiet():
            before = _of_baseline(baseline) if baseline is not None else None
            candidate.measure_empty()
        own.append(candidate.chunk(allclose))
        if before is not None:
            pairs.append((before, own[-1]))
        width = ratio(pairs).half_width if pairs else ratio([(chunk, own[0]) for chunk in own]).half_width
        if len(own) >= _LEAST and width < _NARROW:
            break
    if baseline is not None:
        baseline.rest()
    figure = sealed(own, serial) if candidate.sitting.trusted else _at_other_moments(candidate, allclose, own, serial)
    claim_ms = figure.claim_ms
    if candidate.stall and not candidate.sitting.trusted and figure.detail["clock"] != "events":
        figure = min(figure, _released(candidate, allclose), key=lambda found: found.time_ms)
    if anew and candidate.is_too_small(figure.time_ms):  # it was slow until the first chunk was over
        raise Overestimated(figure.time_ms)
    baseline_ms = middle([claim for chunk, _ in pairs for claim in chunk.claims]) if pairs else None
    return Confirmed(figure, ratio(pairs) if pairs else None, claim_ms, baseline_ms)


def _at_most_ms(first: Chunk) -> float:
    """What a call takes by the claims of a chunk that is not scored, but no more than the clock saw: whoever claimed
    too much there would be held to that, and seem to need no cold calls."""
    return min(statistics.median(first.claims), first.bound_ms + RESOLUTION_MS / len(first.claims))


def _of_baseline(baseline: Seat) -> Chunk:
    if baseline.lost:
        raise BaselineLost("the baseline's worker had failed before")
    try:
        chunk = baseline.chunk(None, checked=0)
    except (WorkerDied, WorkerTimeout, WorkerFailed, ProtocolBreak) as failed:
        baseline.lost = True  # whoever comes next gets another
        raise BaselineLost(f"the baseline's worker failed: {failed}") from failed
    found_ms = middle(chunk.claims)
    baseline.least_ms = min(baseline.least_ms, found_ms)
    most_ms = baseline.least_ms * (_SLOWER if baseline.stall else _SLOWER_HOST)
    if found_ms <= most_ms:
        return chunk
    return replace(chunk, claims=tuple(claim * most_ms / found_ms for claim in chunk.claims))


def _at_other_moments(candidate: Seat, allclose: float | None, own: list[Chunk], serial: list[Chunk]) -> Figure:
    """The figure of *own* chunks; where these refute the claim, of more besides. Changes of context and the host take
    some 0.1 ms more or less for one chunk or another, and more for seconds on end: of 45 judgements of an honest kernel
    of 70 µs five were scored 8 to 13 % above its claim (docs/benchmarks/evaluator-h200.md). What is not true is refuted
    by all of them together, too."""
    figure = sealed(own, serial)
    for later_s in _LATER_S:
        if figure.detail["clock"] != "judge":
            break
        if candidate.slow:
            time.sleep(later_s)
        own += [candidate.chunk(allclose) for _ in range(_LEAST)]
        figure = sealed(own, serial)
    return figure


def _released(candidate: Seat, allclose: float | None) -> Figure:
    """A figure without stalled streams. Two that wait for each other behind a stalled one are switched to and fro by
    the GPU, milliseconds at a time, which an honest candidate with a second stream would have to pay for. The judge's
    clock holds here as it does there."""
    candidate.release(ahead=True)
    first = candidate.chunk(allclose, checked=0)
    serial = candidate.serial(allclose, _at_most_ms(first))
    figure = sealed([candidate.chunk(allclose) for _ in range(_LEAST)], serial)
    return replace(figure, detail={**figure.detail, "released_by": "the host"})
