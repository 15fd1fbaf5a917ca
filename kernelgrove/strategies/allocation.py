"""Where measuring goes: what a new program has to beat, when the leader is measured again, and when one is better.

Screening is cheap and for all; sealed timing is for those that may be the best (``time_to_beat`` goes with every
evaluation), and once more, in a fresh process, for the leader and for a rival that its interval does not tell from
it. Figures without an interval (projected, imported) are exact as they are and are never taken again.
"""

from __future__ import annotations

from ..model import EvaluationView, ImplementationView, JobKind, Outcome, Remeasure, TreeView
from .fold import fold

#: How often the leader is measured in all, its first time included; a rival likewise.
MEASURED = 2
#: Measurements again are at most this share of the programs judged, and this many are always allowed.
SHARE, ALWAYS = 0.06, 2
#: Programs judged since, after which a leader that nothing is near is measured again.
LED = 10
#: A rival is looked for among so many of the fastest.
_RIVALS = 6


def time_to_beat(view: TreeView) -> float | None:
    """Milliseconds of the leader: a program whose screened time cannot beat it needs no sealed one."""
    leader = fold(view).leader
    return leader.time_ms if leader is not None else None


def span(implementation: ImplementationView) -> tuple[float, float] | None:
    """From the lowest to the highest that its measurements allow, sealed ones alone where there are any; None without
    intervals. Several measurements widen it: what differs between processes is in no interval of one."""
    if not implementation.remeasured:
        return implementation.evaluation.time_interval if implementation.evaluation is not None else None
    own = [e for e in (implementation.evaluation, *implementation.remeasured) if e is not None and _timed(e)]
    careful = [e for e in own if e.timing == "sealed"] or own
    intervals = [e.time_interval for e in careful if e.time_interval is not None]
    if not intervals:
        return None
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def better(one: ImplementationView, other: ImplementationView) -> bool:
    """Whether *one* is faster than *other* beyond doubt: their spans are apart, or, of figures that have none, the
    times differ. Both passed, on the same basis."""
    mine, its = span(one), span(other)
    if mine is not None and its is not None:
        return mine[1] < its[0]
    return one.time_ms is not None and other.time_ms is not None and one.time_ms < other.time_ms


def remeasurements(view: TreeView, slots: int) -> list[Remeasure]:
    """Which programs to measure again now, at most *slots*: the leader once it has led for a while, and at once, with
    its closest rival, where their spans do not tell them apart."""
    index = fold(view)
    leader = index.leader
    if slots <= 0 or leader is None or span(leader) is None:
        return []
    rival = next((i for i in index.passed[1:_RIVALS] if _sealed(i) and not better(leader, i)), None)
    wanted = [i for i in (leader, rival) if i is not None and 1 + len(i.remeasured) < MEASURED]
    if not wanted or (rival is None and _since(view, leader) < LED):
        return []
    judged = {i.program: len(i.remeasured) for i in view.implementations.values() if i.evaluation is not None}
    again = [j.implementation for j in index.jobs(JobKind.EVALUATE) if view.implementations[j.implementation or 0].ok]
    left = max(ALWAYS, int(SHARE * len(judged))) - sum(judged.values()) - len(again)
    return [Remeasure(i.id) for i in wanted if i.id not in again][: min(slots, max(0, left))]


def confirmation(view: TreeView) -> list[Remeasure]:
    """The leader, where a search is about to end with one that was measured once: what is told of it should stand."""
    leader = fold(view).leader
    if leader is None or span(leader) is None or 1 + len(leader.remeasured) >= MEASURED or fold(view).flying:
        return []
    return [Remeasure(leader.id)]


def _since(view: TreeView, leader: ImplementationView) -> int:
    """How many programs were judged after *leader* was."""
    at = leader.evaluation.id if leader.evaluation is not None else 0
    return len({i.program for i in view.judged() if i.evaluation is not None and i.evaluation.id > at})


def _timed(evaluation: EvaluationView) -> bool:
    return evaluation.outcome is Outcome.OK and evaluation.time_ms is not None


def _sealed(implementation: ImplementationView) -> bool:
    return implementation.evaluation is not None and implementation.evaluation.timing == "sealed"
