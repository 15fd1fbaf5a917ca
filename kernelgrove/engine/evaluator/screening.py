"""Screened timing: CUDA events around each call in the worker, L2 flushed before it, the judge's clock around the loop.

Cheap, and enough to tell a slow candidate from one that may be the best. What it cannot tell is in docs/evaluation.md.
"""

from __future__ import annotations

from .protocol import ProtocolBreak, Reply, finite_floats
from .sitting import Sitting
from .timing import Figure, Round, figure, repetitions

_BUDGET_MS = 200.0  # of GPU time for the timed calls of one candidate, all rounds together
_ROUNDS = 4
_WARM_CALLS = 3
_MOST_WARM_UPS = 8
_SETTLED = 0.03  # three medians that agree so well end the warm-up


def screen(sitting: Sitting, flush_bytes: int, around_ms: float, samples: int, allclose: float | None) -> Figure:
    """Time the sitting's candidate on inputs it has seen before, rewritten between rounds, every round's last outputs
    checked. *samples*: calls at most. Raises Wrong, Rejected, ProtocolBreak and what a worker's end raises."""
    loop = _Loop(sitting, flush_bytes, allclose)
    estimate = loop.warm_up()
    count = repetitions(estimate, around_ms, samples, _BUDGET_MS)
    each = -(-count // _ROUNDS)
    return figure([loop.run(number % 2, each, check=True) for number in range(_ROUNDS)], around_ms)


class _Loop:
    def __init__(self, sitting: Sitting, flush_bytes: int, allclose: float | None) -> None:
        self.sitting = sitting
        self.flush_bytes = flush_bytes
        self.allclose = allclose

    def warm_up(self) -> float:
        """Run until three medians in a row agree; the last one, in ms."""
        medians: list[float] = []
        for _ in range(_MOST_WARM_UPS):
            claims = sorted(self.run(0, _WARM_CALLS).claims)
            medians.append(claims[len(claims) // 2])
            last = medians[-3:]
            if len(last) == 3 and max(last) - min(last) <= _SETTLED * min(last):
                break
        return medians[-1]

    def run(self, number: int, count: int, check: bool = False) -> Round:
        """*count* timed calls on case *number*; the last one's outputs are compared where *check*."""
        sitting = self.sitting
        worker = sitting.worker
        assert worker is not None
        case = sitting.current(number)
        inputs, outputs = sitting.place(case)
        fields = {"inputs": [slot.to_json() for slot in inputs], "flush_bytes": self.flush_bytes, "n": count}
        worker.ask("arm", Reply.ARMED, sitting.timeout_s, fields, [case.packed])
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
