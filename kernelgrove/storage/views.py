"""Rows as the frozen views of ``model``, many at a time, and the statements that read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from sys import intern
from typing import Any

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
)
from .lazy import JsonObject
from .queries import first, value
from .statements import Statement

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
    defaults = {f.name: f.default for f in fields(view) if f.default is not MISSING}
    laid_out = [(f.name, Any, field(default=defaults.get(f.name))) for f in fields(view)]
    return make_dataclass(view.__name__, laid_out, slots=True)


_NodeTwin, _IdeaTwin, _ImplementationTwin, _EvaluationTwin, _JobTwin = map(
    _twin, (NodeView, Idea, ImplementationView, EvaluationView, JobView)
)


# ---------------------------------------------------------------------------------------------------- nodes

_NODE = "id, parent_id, base_id, address, round, idea, rationale, category, state, pruned_because, model, rating"
NODES = Statement(text(f"SELECT {_NODE} FROM node WHERE search_id = :search AND id > :after ORDER BY id"))
ONE_NODE = Statement(text(f"SELECT {_NODE} FROM node WHERE id = :node"))


def nodes_of(rows: Iterable[Any]) -> dict[int, NodeView]:
    found: dict[int, NodeView] = {}
    for id_, parent, base, address, round_, idea, rationale, category, state, because, model, rating in rows:
        said = _IdeaTwin(idea, rationale, intern(category))
        said.__class__ = Idea
        state = _NODE_STATES[state]
        made = _NodeTwin(id_, parent, base, address, round_, said, state, because, intern(model), rating)
        made.__class__ = NodeView
        found[id_] = made
    return found


# ------------------------------------------------------------------------------- implementations, evaluations

_IMPLEMENTATION = "id, node_id, address, repair_of, program, duplicate_of, model, evaluation_id"
MADE = Statement(
    text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE search_id = :search AND id > :after ORDER BY id")
)
OF_PROGRAM = Statement(
    text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE search_id = :search AND program = :program ORDER BY id")
)
OF_NODE = Statement(text(f"SELECT {_IMPLEMENTATION} FROM implementation WHERE node_id = :node ORDER BY id"))
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


def implementations_of(
    rows: Iterable[Any], judged: Mapping[int, EvaluationView], again: Again | None
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


class Again:
    """Programs that a search measured more than once."""

    def __init__(self, connection: Connection, search: int) -> None:
        self._of: dict[int, tuple[int, ...]] = {}
        groups: dict[int, list[int]] = {}
        for earliest, id_ in _REMEASURED.rows(connection, search=search):
            groups.setdefault(earliest, [earliest]).append(id_)
        for group in groups.values():
            self._of |= dict.fromkeys(group, tuple(group))

    def __bool__(self) -> bool:
        return bool(self._of)

    def others(self, evaluation: int | None) -> tuple[int, ...]:
        """The other measurements of the program that *evaluation* measured, the first one first."""
        if evaluation is None:
            return ()
        return tuple(id_ for id_ in self._of.get(evaluation, ()) if id_ != evaluation)


def own_evaluations(connection: Connection, search: int) -> dict[int, EvaluationView]:
    """The evaluations that *search* made."""
    messages = dict(_MESSAGES.rows(connection, search=search))
    return evaluations_of(_OWN.stream(connection, search=search), messages)


def add_missing(
    connection: Connection, search: int, rows: Iterable[Any], again: Again, judged: dict[int, EvaluationView]
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
    return evaluations_of([row[:-1] for row in rows], {row[0]: row[-1] for row in rows})


def evaluations_of(rows: Iterable[Any], messages: Mapping[int, str]) -> dict[int, EvaluationView]:
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


_PROFILE = "SELECT baselines, advice, detail, provenance, time_stats FROM evaluation WHERE id = :id"


def profile(connection: Connection, number: int) -> dict[str, Any]:
    """What an evaluation found besides its outcome: baselines (ms), advice, detail. Raises NotFound."""
    found = first(connection, _PROFILE, id=number)
    if found is None:
        raise NotFound(f"There is no evaluation e{number} in this database.")
    return found


# ----------------------------------------------------------------------------------------------------- jobs

JOB_COLUMNS = "id, kind, state, node_id, implementation_id, key, payload, reason"


def jobs_of(rows: Iterable[Any]) -> dict[int, JobView]:
    found: dict[int, JobView] = {}
    for id_, kind, state, node, implementation, key, payload, reason in rows:
        kind, state = _JOB_KINDS[kind], _JOB_STATES[state]
        made = _JobTwin(id_, kind, state, node, implementation, key, JsonObject(payload), reason)
        made.__class__ = JobView
        found[id_] = made
    return found


def part(
    connection: Connection, search: int, nodes: Iterable[int]
) -> tuple[Mapping[int, NodeView], Mapping[int, ImplementationView]]:
    """These *nodes* of *search* and their implementations, one by one."""
    views: dict[int, NodeView] = {}
    rows: list[Any] = []
    for id_ in nodes:
        views |= nodes_of(ONE_NODE.rows(connection, node=id_))
        rows += OF_NODE.rows(connection, node=id_)
    judged: dict[int, EvaluationView] = {}
    again = Again(connection, search)
    add_missing(connection, search, rows, again, judged)
    return views, implementations_of(rows, judged, again)


# ----------------------------------------------------------------------------------------------------- code


def code(connection: Connection, program: str) -> str:
    """Raises NotFound."""
    found = value(connection, "SELECT code FROM program WHERE hash = :program", program=program)
    if found is None:
        raise NotFound(f"There is no program {program[:12]} in this database.")
    return str(found)
