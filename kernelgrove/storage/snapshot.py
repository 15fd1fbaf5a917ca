"""The immutable picture of one search that strategies and renderers work from: no code, one query a table.

A controller takes one at every step. ``Snapshot.next`` makes it from the last one and the rows that have changed since:
nodes, implementations and evaluations only ever come; what changes of them follows from decisions (prunes), finished
jobs (ratings) and evaluations; and jobs that are not done are few.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from ..model import EvaluationView, JobKind, JobState, JobView, TreeView
from .queries import missing, value
from .statements import Statement
from .views import (
    JOB_COLUMNS,
    MADE,
    NODES,
    OF_PROGRAM,
    ONE_NODE,
    Again,
    add_missing,
    implementations_of,
    jobs_of,
    nodes_of,
    own_evaluations,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Snapshot:
    """A view, and up to which row of each table it has seen the grove. ``jobs`` are the view's by id, ``open`` those of
    them that are not done."""

    view: TreeView
    jobs: Mapping[int, JobView]
    open: frozenset[int]
    evaluation: int
    job: int

    def next(self, connection: Connection) -> Snapshot:
        """The same search as it is now; the same snapshot where nothing has changed."""
        return _next(connection, self)


def take(connection: Connection, search: int) -> Snapshot:
    """All of *search*. Raises NotFound."""
    seed = value(connection, "SELECT seed FROM search WHERE id = :search", search=search)
    if seed is None:
        raise missing(connection, search)
    with _collecting_nothing():
        nodes = nodes_of(NODES.stream(connection, search=search, after=0))
        judged = own_evaluations(connection, search)
        rows = MADE.rows(connection, search=search, after=0)
        again = Again(connection, search)
        add_missing(connection, search, rows, again, judged)
        made = implementations_of(rows, judged, again)
        del rows, judged
        most = _SHARE.value(connection, search=search) > 0.3
        jobs = jobs_of((_ALL_JOBS if most else _JOBS).stream(connection, search=search))
    view = TreeView(
        search=search,
        seed=seed,
        step=_STEP.value(connection, search=search),
        root=next(iter(nodes)),
        nodes=MappingProxyType(nodes),
        implementations=MappingProxyType(made),
        jobs=tuple(jobs.values()),
    )
    return _snapshot(view, jobs, _open(jobs.values()), _last_rows(connection))


def _next(connection: Connection, old: Snapshot) -> Snapshot:
    view, search = old.view, old.view.search
    step = _STEP.value(connection, search=search)
    seen = _last_rows(connection)
    jobs = _changed_jobs(connection, old)
    nodes = nodes_of(NODES.rows(connection, search=search, after=_last(view.nodes)))
    for id_ in _touched(connection, old, jobs):
        nodes |= nodes_of(ONE_NODE.rows(connection, node=id_))
    rows = MADE.rows(connection, search=search, after=_last(view.implementations))
    for program in {program for (program,) in _MEASURED.rows(connection, search=search, after=old.evaluation)}:
        rows += OF_PROGRAM.rows(connection, search=search, program=program)
    judged: dict[int, EvaluationView] = {}
    again = Again(connection, search) if rows else None
    if again is not None:
        add_missing(connection, search, rows, again, judged)
    made = implementations_of(rows, judged, again)
    if step == view.step and not nodes and not made and not jobs:
        return Snapshot(view, old.jobs, old.open, *seen)
    held = dict(old.jobs) if jobs else old.jobs
    for id_, job in jobs.items():
        if job is None:
            held.pop(id_, None)  # type: ignore[attr-defined]
        else:
            held[id_] = job  # type: ignore[index]
    now = TreeView(
        search=search,
        seed=view.seed,
        step=step,
        root=view.root,
        nodes=_with(view.nodes, nodes),
        implementations=_with(view.implementations, made),
        jobs=tuple(held.values()) if jobs else view.jobs,
    )
    open_ = old.open.difference(jobs) | _open(job for job in jobs.values() if job is not None)
    return _snapshot(now, held, open_, seen)


def _snapshot(view: TreeView, jobs: Mapping[int, JobView], open_: frozenset[int], seen: tuple[int, int]) -> Snapshot:
    # What the view would find by looking through all of its jobs.
    vars(view)["_in_flight"] = tuple(job for id_ in sorted(open_) if (job := jobs[id_]).in_flight)
    return Snapshot(view, jobs, open_, *seen)


def _with(old: Mapping[int, _T], changed: Mapping[int, _T]) -> Mapping[int, _T]:
    return MappingProxyType({**old, **changed}) if changed else old


def _last(rows: Mapping[int, Any]) -> int:
    """Ids are given in order, and rows lie in that of their ids."""
    return next(reversed(rows), 0)


_MEASURED = Statement(
    text("SELECT program FROM evaluation WHERE id > :after AND search_id + 0 = :search AND job_id IS NOT NULL")
)
_STEP = Statement(text("SELECT coalesce(max(step) + 1, 0) FROM decision WHERE search_id = :search"))
_LAST = Statement(text("SELECT coalesce((SELECT max(id) FROM evaluation), 0), coalesce((SELECT max(id) FROM job), 0)"))


def _last_rows(connection: Connection) -> tuple[int, int]:
    found = _LAST.first(connection)
    assert found is not None
    return found[0], found[1]


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Python looks for cycles the more often the more objects there are; these rows form none."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


_PRUNING = Statement(
    text(
        "SELECT actions FROM decision WHERE search_id = :search AND step >= :step AND actions LIKE '%\"prune\"%'"
        " ORDER BY step"
    )
)


def _touched(connection: Connection, old: Snapshot, jobs: Mapping[int, JobView | None]) -> set[int]:
    """Nodes that were pruned or rated since."""
    found: set[int] = set()
    for (actions,) in _PRUNING.rows(connection, search=old.view.search, step=old.view.step):
        found |= {action["node"] for action in json.loads(actions) if action["action"] == "prune"}
    for job in jobs.values():
        if job is not None and job.kind is JobKind.RATE and job.state is JobState.DONE:
            found.update(job.payload.get("nodes", ()))
    return found


# ----------------------------------------------------------------------------------------------------- jobs

# All but evaluations that are done: a strategy must see those that were given up too.
_SHOWN = f"SELECT {JOB_COLUMNS} FROM job WHERE {{}} AND (kind <> 'evaluate' OR state <> 'done') ORDER BY id"
_JOBS = Statement(text(_SHOWN.format("search_id = :search")))
# The whole table, where most of it is this search's: in the order in which it lies.
_ALL_JOBS = Statement(text(_SHOWN.format("search_id + 0 = :search")))
_SHARE = Statement(
    text("SELECT (SELECT count(*) FROM node WHERE search_id = :search) * 1.0 / (SELECT max(id) FROM node)")
)
_NEW_JOBS = Statement(text(_SHOWN.format("search_id + 0 = :search AND id > :after")))
_OPEN_JOBS = Statement(
    text(
        f"SELECT {JOB_COLUMNS} FROM job"
        " WHERE state IN ('queued', 'leased', 'failed', 'dead') AND search_id + 0 = :search"
    )
)
_ONE_JOB = Statement(text(f"SELECT {JOB_COLUMNS} FROM job WHERE id = :job"))


def _open(jobs: Iterable[JobView]) -> frozenset[int]:
    return frozenset(job.id for job in jobs if job.state is not JobState.DONE)


def _changed_jobs(connection: Connection, old: Snapshot) -> dict[int, JobView | None]:
    """What is not as it was, by id, in order; None for an evaluation that is done and so not shown."""
    search = old.view.search
    now: dict[int, JobView | None] = {}
    for statement, values in ((_NEW_JOBS, {"after": old.job}), (_OPEN_JOBS, {})):
        now |= jobs_of(statement.rows(connection, search=search, **values))
    for id_ in old.open.difference(now):
        job = jobs_of(_ONE_JOB.rows(connection, job=id_))[id_]
        now[id_] = None if job.kind is JobKind.EVALUATE else job
    return {id_: now[id_] for id_ in sorted(now) if _differs(old.jobs.get(id_), now[id_])}


def _differs(before: JobView | None, now: JobView | None) -> bool:
    """Nothing else of a job ever changes."""
    if before is None or now is None:
        return before is not now
    return (before.state, before.reason) != (now.state, now.reason)
