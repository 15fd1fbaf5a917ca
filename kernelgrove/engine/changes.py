"""Events: from snapshots and results to what a listener is told, and the one place that tells it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import takewhile

from ..model import NodeState, TreeView
from ..ports import EvaluatedResult, Job, JobResult
from .events import Event, JobFinished, NewBest, NodeAdded, NodePruned, RoundStarted
from .jobs import Ended

_log = logging.getLogger(__name__)


class Teller:
    """Calls the listener. One that raises is dropped, and logged: a view that breaks must not end a search that
    has run for days."""

    def __init__(self, listener: Callable[[Event], None]) -> None:
        self._listener: Callable[[Event], None] | None = listener

    def __call__(self, event: Event) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:
            _log.exception("the listener failed on %s and is told nothing more", event)
            self._listener = None


def changes(old: TreeView | None, new: TreeView) -> Iterator[Event]:
    """Rounds begun, nodes added and pruned, and a new best; nothing where there is no *old*, but for the round."""
    if old is not None and new is old:
        return
    before_it = -1 if old is None else latest_round(old)
    round_ = latest_round(new, old)
    if round_ > before_it:
        yield RoundStarted(round_)
    if old is None:
        return
    for node in () if new.nodes is old.nodes else new.nodes.values():
        before = old.nodes.get(node.id)
        if before is None:
            yield NodeAdded(node.id, node.parent, node.address, node.round, node.idea.text, node.idea.category)
        if node.state is NodeState.PRUNED and (before is None or before.state is not NodeState.PRUNED):
            yield NodePruned(node.id, node.idea.text, node.pruned_because or "")
    if new.implementations is old.implementations:
        return
    best, was = new.best(1), old.best(1)
    if best and (not was or best[0].id != was[0].id):
        found = best[0].evaluation
        if found is not None and found.time_ms is not None:
            idea = new.nodes[best[0].node].idea.text
            yield NewBest(best[0].id, idea, found.time_ms, found.speedup.get("eager"), found.basis)


def latest_round(view: TreeView, earlier: TreeView | None = None) -> int:
    """The highest round that anything was planned for: -1 before the first job. Of jobs that an *earlier* view of the
    search has, the answer for that one is taken. Kept with the view, which never changes."""
    kept = vars(view)
    if "_latest_round" not in kept:
        known = -1 if earlier is None else latest_round(earlier)
        last = earlier.jobs[-1].id if earlier is not None and earlier.jobs else 0
        asked = [
            int(job.payload.get("round", view.nodes[job.node].round if job.node else 0))
            for job in takewhile(lambda job: job.id > last, reversed(view.jobs))
        ]
        kept["_latest_round"] = max([known, *asked])
    return int(kept["_latest_round"])


def finished(
    ended: Ended, result: JobResult | None, view: TreeView | None, *, error: str | None = None, again: bool = False
) -> JobFinished:
    """How a job ended: what was judged, or why it failed (*error*)."""
    job = ended.job
    found = result.result if isinstance(result, EvaluatedResult) else None
    return JobFinished(
        job.id,
        job.kind,
        job.key,
        ended.wall_s,
        idea_of(view, job),
        job.node,
        job.implementation,
        outcome=found.outcome if found else None,
        message=found.message if found else "",
        time_ms=found.time_ms if found else None,
        speedup=found.speedup.get("eager") if found else None,
        timing=found.timing if found else None,
        basis=found.basis if found else None,
        error=error,
        again=again,
    )


def idea_of(view: TreeView | None, job: Job) -> str | None:
    """The idea a job is about, in words; None for the root."""
    if view is None:
        return None
    node = job.node
    if node is None and job.implementation is not None and job.implementation in view.implementations:
        node = view.implementations[job.implementation].node
    return view.nodes[node].idea.text if node is not None and node != view.root and node in view.nodes else None
