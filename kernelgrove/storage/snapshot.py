"""The immutable picture of one search that strategies and renderers work from. No code, one query a table."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

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
from .queries import decode, first, missing, rows, value

_EVALUATION = "e.id, e.outcome, e.stage, e.message, e.basis, e.time_ms, e.baselines, e.speedup"

_OUTCOMES = {str(o): o for o in Outcome}
_STAGES = {str(s): s for s in Stage}
_BASES = {str(b): b for b in Basis}
_NODE_STATES = {str(s): s for s in NodeState}
_JOB_STATES = {str(s): s for s in JobState}
_JOB_KINDS = {str(k): k for k in JobKind}


def _evaluation_view(row: Any) -> EvaluationView:
    id_, outcome, stage, message, basis, time_ms, baselines, speedup = row
    return EvaluationView(
        *(id_, _OUTCOMES[outcome], _STAGES[stage], message, _BASES[basis], time_ms),
        *(decode(baselines), decode(speedup)),
    )


def evaluation(connection: Connection, number: int) -> EvaluationView:
    """Raises NotFound."""
    found = rows(connection, f"SELECT {_EVALUATION} FROM evaluation e WHERE e.id = :id", id=number)
    if not found:
        raise NotFound(f"There is no evaluation e{number} in this database.")
    return _evaluation_view(found[0])


def tree(connection: Connection, search: int) -> TreeView:
    """Raises NotFound."""
    seed = value(connection, "SELECT seed FROM search WHERE id = :search", search=search)
    if seed is None:
        raise missing(connection, search)
    nodes = _nodes(connection, search)
    return TreeView(
        search=search,
        seed=seed,
        step=value(
            connection, "SELECT coalesce(max(step) + 1, 0) FROM decision WHERE search_id = :search", search=search
        ),
        root=next(iter(nodes)),
        nodes=MappingProxyType(nodes),
        implementations=MappingProxyType(_implementations(connection, search)),
        jobs=_jobs(connection, search),
    )


_NODES = """
SELECT id, parent_id, base_id, address, round, idea, rationale, category, state, pruned_because, model, rating
FROM node WHERE search_id = :search ORDER BY id
"""


def _nodes(connection: Connection, search: int) -> dict[int, NodeView]:
    return {
        id_: NodeView(
            *(id_, parent, base, address, round_, Idea(idea, rationale, category)),
            *(_NODE_STATES[state], because, model, rating),
        )
        for id_, parent, base, address, round_, idea, rationale, category, state, because, model, rating in rows(
            connection, _NODES, search=search
        )
    }


# A duplicate's evaluation is that of the implementation it repeats, so it need not be read again.
_JUDGED = f"""
SELECT {_EVALUATION} FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id
WHERE i.search_id = :search AND i.duplicate_of IS NULL
"""
_IMPLEMENTATIONS = """
SELECT id, node_id, address, repair_of, program, duplicate_of, model, evaluation_id
FROM implementation WHERE search_id = :search ORDER BY id
"""


def _implementations(connection: Connection, search: int) -> dict[int, ImplementationView]:
    judged = {row[0]: _evaluation_view(row) for row in rows(connection, _JUDGED, search=search)}
    return {
        id_: ImplementationView(id_, node, address, repair_of, program, duplicate_of, model, judged.get(judged_by))
        for id_, node, address, repair_of, program, duplicate_of, model, judged_by in rows(
            connection, _IMPLEMENTATIONS, search=search
        )
    }


# All but evaluations that are done: a strategy must see those that were given up too.
_JOBS = """
SELECT id, kind, state, node_id, implementation_id, key, payload, reason
FROM job WHERE search_id = :search AND (kind <> 'evaluate' OR state <> 'done') ORDER BY id
"""


def _jobs(connection: Connection, search: int) -> tuple[JobView, ...]:
    return tuple(
        JobView(id_, _JOB_KINDS[kind], _JOB_STATES[state], node, implementation, key, decode(payload), reason)
        for id_, kind, state, node, implementation, key, payload, reason in rows(connection, _JOBS, search=search)
    )


_PROFILE = "SELECT baselines, advice, detail, provenance, time_stats FROM evaluation WHERE id = :id"


def profile(connection: Connection, number: int) -> dict[str, Any]:
    """What an evaluation found besides its outcome: baselines (ms), advice, detail. Raises NotFound."""
    found = first(connection, _PROFILE, id=number)
    if found is None:
        raise NotFound(f"There is no evaluation e{number} in this database.")
    return found


def code(connection: Connection, program: str) -> str:
    """Raises NotFound."""
    found = value(connection, "SELECT code FROM program WHERE hash = :program", program=program)
    if found is None:
        raise NotFound(f"There is no program {program[:12]} in this database.")
    return str(found)
