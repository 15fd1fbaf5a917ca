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
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from sys import intern
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from ..errors import NotFound
from ..model import (
    Basis,
    EvaluationView,
    Idea,
    ImplementationView,
    JobKind,
    JobState,
    JobView,
    NodeState,
    NodeView,
    Outcome,
    Stage,
    TreeView,
)
from .lazy import JsonObject
from .queries import missing, value
from .statements import Statement

_T = TypeVar("_T")

_OUTCOMES = {str(o): o for o in Outcome}
_STAGES = {str(s): s for s in Stage}
_BASES = {str(b): b for b in Basis}
_NODE_STATES = {str(s): s for s in NodeState}
_JOB_STATES = {str(s): s for s in JobState}
_JOB_KINDS = {str(k): k for k in JobKind}


def _twin(view: type) -> Any:
    """A class laid out as the frozen dataclass *view* is, but open: it is filled in and then becomes a *view*, by its
    ``__class__``. A frozen one sets each field through a guard, which takes four times as long, and a large tree has
    half a million objects."""
    assert is_dataclass(view)
    return make_dataclass(view.__name__, [field.name for field in fields(view)], slots=True)


_NodeTwin, _IdeaTwin, _ImplementationTwin, _EvaluationTwin, _JobTwin = map(
    _twin, (NodeView, Idea, ImplementationView, EvaluationView, JobView)
)


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
        nodes = _nodes(_NODES.stream(connection, search=search, after=0))
        judged = _judged(connection, search)
        rows = _MADE.rows(connection, search=search, after=0)
        again = _Again(connection, search)
        _add_missing(connection, search, rows, again, judged)
        made = _implementations(rows, judged, again)
        del rows, judged
        most = _SHARE.value(connection, search=search) > 0.3
        jobs = _jobs((_ALL_JOBS if most else _JOBS).stream(connection, search=search))
    view = TreeView(
        search=search,
        seed=seed,
        step=_STEP.value(connection, search=search),
        root=next(iter(nodes)),
        nodes=MappingProxyType(nodes),
        implementations=MappingProxyType(made),
        jobs=tuple(jobs.values()),
    )
    return Snapshot(view, jobs, _open(jobs.values()), *_last_rows(connection))


def _next(connection: Connection, old: Snapshot) -> Snapshot:
    view, search = old.view, old.view.search
    step = _STEP.value(connection, search=search)
    seen = _last_rows(connection)
    jobs = _changed_jobs(connection, old)
    nodes = _nodes(_NODES.rows(connection, search=search, after=_last(view.nodes)))
    for id_ in _touched(connection, old, jobs):
        nodes |= _nodes(_ONE_NODE.rows(connection, node=id_))
    rows = _MADE.rows(connection, search=search, after=_last(view.implementations))
    for program in {program for (program,) in _MEASURED.rows(connection, search=search, after=old.evaluation)}:
        rows += _OF_PROGRAM.rows(connection, search=search, program=program)
    judged: dict[int, EvaluationView] = {}
    again = _Again(connection, search) if rows else None
    if again is not None:
        _add_missing(connection, search, rows, again, judged)
    made = _implementations(rows, judged, again)
    if step == view.step and not nodes and not made and not jobs:
        return Snapshot(view, old.jobs, old.open, *seen)
    held = old.jobs
    if jobs:
        held = {id_: job for id_, job in {**old.jobs, **jobs}.items() if job is not None}
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
    return Snapshot(now, held, open_, *seen)


def _with(old: Mapping[int, _T], changed: Mapping[int, _T]) -> Mapping[int, _T]:
    return MappingProxyType({**old, **changed}) if changed else old


def _last(rows: Mapping[int, Any]) -> int:
    """Ids are given in order, and rows lie in that of their ids."""
    return next(reversed(rows), 0)


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


def part(
    connection: Connection, search: int, nodes: Iterable[int]
) -> tuple[Mapping[int, NodeView], Mapping[int, ImplementationView]]:
    """These *nodes* of *search* and their implementations, one by one."""
    views: dict[int, NodeView] = {}
    rows: list[Any] = []
    for id_ in nodes:
        views |= _nodes(_ONE_NODE.rows(connection, node=id_))
        rows += _OF_NODE.rows(connection, node=id_)
    judged: dict[int, EvaluationView] = {}
    again = _Again(connection, search)
    _add_missing(connection, search, rows, again, judged)
    return views, _implementations(rows, judged, again)


# ---------------------------------------------------------------------------------------------------- nodes

_NODE = "id, parent_id, base_id, address, round, idea, rationale, category, state, pruned_because, model, rating"
_NODES = Statement(text(f"SELECT {_NODE} FROM node WHERE search_id = :search AND id > :after ORDER BY id"))
_ONE_NODE = Statement(text(f"SELECT {_NODE} FROM node WHERE id = :node"))
_PRUNING = Statement(
    text(
        "SELECT actions FROM decision WHERE search_id = :search AND step >= :step AND actions LIKE '%\"prune\"%'"
        " ORDER BY step"
    )
)


def _nodes(rows: Iterable[Any]) -> dict[int, NodeView]:
    found: dict[int, NodeView] = {}
    for id_, parent, base, address, round_, idea, rationale, category, state, because, model, rating in rows:
        said = _IdeaTwin(idea, rationale, intern(category))
        said.__class__ = Idea
        state = _NODE_STATES[state]
        made = _NodeTwin(id_, parent, base, address, round_, said, state, because, intern(model), rating)
        made.__class__ = NodeView
        found[id_] = made
    return found


def _touched(connection: Connection, old: Snapshot, jobs: Mapping[int, JobView | None]) -> set[int]:
    """Nodes that were pruned or rated since."""
    found: set[int] = set()
    for (actions,) in _PRUNING.rows(connection, search=old.view.search, step=old.view.step):
        found |= {action["node"] for action in json.loads(actions) if action["action"] == "prune"}
    for job in jobs.values():
        if job is not None and job.kind is JobKind.RATE and job.state is JobState.DONE:
            found.update(job.payload.get("nodes", ()))
    return found


# ------------------------------------------------------------------------------- implementations, evaluations

_IMPLEMENTATION = "id, node_id, address, repair_of, program, duplicate_of, model, evaluation_id"
_MADE = Statement(
    text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE search_id = :search AND id > :after ORDER BY id")
)
_OF_PROGRAM = Statement(
    text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE search_id = :search AND program = :program ORDER BY id")
)
_MEASURED = Statement(
    text("SELECT program FROM evaluation WHERE id > :after AND search_id + 0 = :search AND job_id IS NOT NULL")
)
_OF_NODE = Statement(text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE node_id = :node ORDER BY id"))
_LIGHT = "e.id, e.outcome, e.stage, e.basis, e.time_ms, e.time_low_ms, e.time_high_ms, e.timing, e.baselines, e.speedup"
# Both from an index: rows of evaluations are wide.
_OWN = Statement(text(f"SELECT {_LIGHT} FROM evaluation e WHERE e.search_id = :search"))
_MESSAGES = Statement(text("SELECT id, message FROM evaluation WHERE search_id = :search AND message <> ''"))
_REUSED = Statement(
    text(
        f"SELECT {_LIGHT}, e.message FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id"
        " WHERE i.search_id = :search AND i.duplicate_of IS NULL AND (e.search_id IS NULL OR e.search_id <> :search)"
    )
)
_ONE = Statement(text(f"SELECT {_LIGHT}, e.message FROM evaluation e WHERE e.id = :id"))

#: From how many evaluations on they are read in one statement.
_MANY = 100


def _implementations(
    rows: Iterable[Any], judged: Mapping[int, EvaluationView], again: _Again | None
) -> dict[int, ImplementationView]:
    found: dict[int, ImplementationView] = {}
    for id_, node, address, repair_of, program, duplicate_of, model, judged_by in rows:
        evaluation = judged.get(judged_by)
        others = tuple(judged[other] for other in again.others(judged_by)) if again else ()
        made = _ImplementationTwin(
            id_, node, address, repair_of, program, duplicate_of, intern(model), evaluation, others
        )
        made.__class__ = ImplementationView
        found[id_] = made
    return found


_REMEASURED = Statement(
    text("SELECT remeasures, id FROM evaluation WHERE search_id = :search AND remeasures IS NOT NULL ORDER BY id")
)


class _Again:
    """Programs that a search measured more than once."""

    def __init__(self, connection: Connection, search: int) -> None:
        self._of: dict[int, tuple[int, ...]] = {}
        groups: dict[int, list[int]] = {}
        for first, id_ in _REMEASURED.rows(connection, search=search):
            groups.setdefault(first, [first]).append(id_)
        for group in groups.values():
            self._of |= dict.fromkeys(group, tuple(group))

    def __bool__(self) -> bool:
        return bool(self._of)

    def others(self, evaluation: int | None) -> tuple[int, ...]:
        """The other measurements of the program that *evaluation* measured, the first one first."""
        if evaluation is None:
            return ()
        return tuple(id_ for id_ in self._of.get(evaluation, ()) if id_ != evaluation)


def _judged(connection: Connection, search: int) -> dict[int, EvaluationView]:
    """The evaluations that *search* made."""
    messages = dict(_MESSAGES.rows(connection, search=search))
    return _evaluations(_OWN.stream(connection, search=search), messages)


def _add_missing(
    connection: Connection, search: int, rows: Iterable[Any], again: _Again, judged: dict[int, EvaluationView]
) -> None:
    """To *judged*, the evaluations that these rows of implementations need and that are not there: reused from other
    searches."""
    needed = {row[-1] for row in rows if row[-1] is not None}
    if again:
        needed |= {other for id_ in needed for other in again.others(id_)}
    missing = needed - judged.keys()
    if len(missing) >= _MANY:
        judged |= _with_messages(_REUSED.rows(connection, search=search))
        missing -= judged.keys()
    judged |= _with_messages(row for id_ in missing for row in _ONE.rows(connection, id=id_))


def _with_messages(rows: Iterable[Any]) -> dict[int, EvaluationView]:
    """As ``_evaluations``, of rows whose last column is the message."""
    rows = list(rows)
    return _evaluations([row[:-1] for row in rows], {row[0]: row[-1] for row in rows})


def _evaluations(rows: Iterable[Any], messages: Mapping[int, str]) -> dict[int, EvaluationView]:
    shared: dict[str, JsonObject] = {}  # the reference's times are those of every candidate
    found: dict[int, EvaluationView] = {}
    for id_, outcome, stage, basis, time_ms, low, high, timing, baselines, speedup in rows:
        known = shared.get(baselines)
        if known is None:
            known = shared[baselines] = JsonObject(baselines)
        outcome, stage, basis = _OUTCOMES[outcome], _STAGES[stage], _BASES[basis]
        interval = None if low is None or high is None else (low, high)
        message, figures = messages.get(id_, ""), JsonObject(speedup)
        made = _EvaluationTwin(id_, outcome, stage, message, basis, time_ms, known, figures, interval, timing)
        made.__class__ = EvaluationView
        found[id_] = made
    return found


def evaluation(connection: Connection, number: int) -> EvaluationView:
    """Raises NotFound."""
    found = _with_messages(_ONE.rows(connection, id=number))
    if not found:
        raise NotFound(f"There is no evaluation e{number} in this database.")
    return found[number]


# ----------------------------------------------------------------------------------------------------- jobs

_COLUMNS = "id, kind, state, node_id, implementation_id, key, payload, reason"
# All but evaluations that are done: a strategy must see those that were given up too.
_SHOWN = f"SELECT {_COLUMNS} FROM job WHERE {{}} AND (kind <> 'evaluate' OR state <> 'done') ORDER BY id"
_JOBS = Statement(text(_SHOWN.format("search_id = :search")))
# The whole table, where most of it is this search's: in the order in which it lies.
_ALL_JOBS = Statement(text(_SHOWN.format("search_id + 0 = :search")))
_SHARE = Statement(
    text("SELECT (SELECT count(*) FROM node WHERE search_id = :search) * 1.0 / (SELECT max(id) FROM node)")
)
_NEW_JOBS = Statement(text(_SHOWN.format("search_id + 0 = :search AND id > :after")))
_OPEN_JOBS = Statement(
    text(
        f"SELECT {_COLUMNS} FROM job WHERE state IN ('queued', 'leased', 'failed', 'dead') AND search_id + 0 = :search"
    )
)
_ONE_JOB = Statement(text(f"SELECT {_COLUMNS} FROM job WHERE id = :job"))


def _jobs(rows: Iterable[Any]) -> dict[int, JobView]:
    found: dict[int, JobView] = {}
    for id_, kind, state, node, implementation, key, payload, reason in rows:
        kind, state = _JOB_KINDS[kind], _JOB_STATES[state]
        made = _JobTwin(id_, kind, state, node, implementation, key, JsonObject(payload), reason)
        made.__class__ = JobView
        found[id_] = made
    return found


def _open(jobs: Iterable[JobView]) -> frozenset[int]:
    return frozenset(job.id for job in jobs if job.state is not JobState.DONE)


def _changed_jobs(connection: Connection, old: Snapshot) -> dict[int, JobView | None]:
    """What is not as it was, by id, in order; None for an evaluation that is done and so not shown."""
    search = old.view.search
    now: dict[int, JobView | None] = {}
    for statement, values in ((_NEW_JOBS, {"after": old.job}), (_OPEN_JOBS, {})):
        now |= _jobs(statement.rows(connection, search=search, **values))
    for id_ in old.open.difference(now):
        job = _jobs(_ONE_JOB.rows(connection, job=id_))[id_]
        now[id_] = None if job.kind is JobKind.EVALUATE else job
    return {id_: now[id_] for id_ in sorted(now) if _differs(old.jobs.get(id_), now[id_])}


def _differs(before: JobView | None, now: JobView | None) -> bool:
    """Nothing else of a job ever changes."""
    if before is None or now is None:
        return before is not now
    return (before.state, before.reason) != (now.state, now.reason)


# ----------------------------------------------------------------------------------------------------- code


def code(connection: Connection, program: str) -> str:
    """Raises NotFound."""
    found = value(connection, "SELECT code FROM program WHERE hash = :program", program=program)
    if found is None:
        raise NotFound(f"There is no program {program[:12]} in this database.")
    return str(found)
