"""Screened timing: CUDA events around each call in the worker, L2 flushed before it, the judge's clock around the loop.

Cheap, and enough to tell a slow candidate from one that may be the best. What it cannot tell is in docs/evaluation.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..sittings.sitting import Sitting
from ..wire.protocol import ProtocolBreak, Reply, finite_floats
from .figures import Figure, Round, figure, repetitions

_BUDGET_MS = 200.0  # of GPU time for the timed calls of one candidate, all rounds together
_ROUNDS = 4
_WARM_CALLS = 3
_MOST_WARM_UPS = 8
_SETTLED = 0.03  # three medians that agree so well end the warm-up


def screen(
    sitting: Sitting,
    flush_bytes: int,
    around_ms: float,
    samples: int,
    allclose: float | None,
    settle: Callable[[], None],
) -> Figure:
    """Time the sitting's candidate on inputs it has seen before, rewritten between rounds, every round's last outputs
    checked. *samples*: calls at most. *settle* waits until memory is fast: what the judge gives back for a large case
    is still being cleared. Raises Wrong, Rejected, ProtocolBreak and what a worker's end raises."""
    loop = _Loop(sitting, flush_bytes, allclose, settle)
    estimate_ms = statistics.median(loop.warm_up()[-1].claims)
    count = repetitions(estimate_ms, around_ms, samples, _BUDGET_MS)
    each = -(-count // _ROUNDS)
    # A reference that changes its inputs, or itself, answers its last call otherwise than its first.
    check = not sitting.trusted
    return figure([loop.run(number % 2, each, check=check) for number in range(_ROUNDS)], around_ms)


def glance(sitting: Sitting, flush_bytes: int, around_ms: float, allclose: float | None) -> float:
    """A first look at what a call takes, in ms: no figure, but what the judge's clock refutes is not believed."""
    return figure(_Loop(sitting, flush_bytes, allclose).warm_up(), around_ms).time_ms


class _Loop:
    def __init__(
        self,
        sitting: Sitting,
        flush_bytes: int,
        allclose: float | None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.sitting = sitting
        self.flush_bytes = flush_bytes
        self.allclose = allclose
        self.settle = settle

    def warm_up(self) -> list[Round]:
        """Run until the medians of three rounds in a row agree; the last three."""
        rounds: list[Round] = []
        for _ in range(_MOST_WARM_UPS):
            rounds.append(self.run(0, _WARM_CALLS))
            medians = [statistics.median(timed.claims) for timed in rounds[-3:]]
            if len(medians) == 3 and max(medians) - min(medians) <= _SETTLED * min(medians):
                break
        return rounds[-3:]

    def run(self, number: int, count: int, check: bool = False) -> Round:
        """*count* timed calls on case *number*; the last one's outputs are compared where *check*."""
        sitting = self.sitting
        worker = sitting.worker
        assert worker is not None
        case = sitting.current(number)
        inputs, outputs = sitting.place(case)
        fields = {"inputs": [slot.to_json() for slot in inputs], "flush_bytes": self.flush_bytes, "n": count}
        worker.ask("arm", Reply.ARMED, sitting.timeout_s, fields, [case.packed])
        self.settle()
        worker.ask("go", Reply.TIMED, sitting.timeout_s, {})
        wall_ms = worker.wall_s * 1e3
        reply = worker.ask("deliver", Reply.DELIVERED, sitting.timeout_s, {"outputs": sitting.wanted(case, outputs)})
        claims = finite_floats(reply.get("claims"), count)
        if len(claims) != count or min(claims) <= 0:
            raise ProtocolBreak(f"the worker gave {len(claims)} times for {count} calls, or a time of zero")
        if check:
            sitting.delivered(reply, case)
            sitting.verdict(case, self.allclose)
        return Round(tuple(claims), wall_ms)
