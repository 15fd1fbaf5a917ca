"""The immutable picture of one search that strategies and renderers work from. No code, one query a table."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, or_, select

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
from .searches import missing
from .tables import DECISION, EVALUATION, IMPLEMENTATION, JOB, NODE, PROGRAM, SEARCH

#: What ``evaluation_view`` reads, in its order.
EVALUATION_COLUMNS = (
    EVALUATION.c.id,
    EVALUATION.c.outcome,
    EVALUATION.c.stage,
    EVALUATION.c.message,
    EVALUATION.c.basis,
    EVALUATION.c.time_ms,
    EVALUATION.c.baselines,
    EVALUATION.c.speedup,
)

_OUTCOMES = {str(o): o for o in Outcome}
_STAGES = {str(s): s for s in Stage}
_BASES = {str(b): b for b in Basis}
_NODE_STATES = {str(s): s for s in NodeState}
_JOB_STATES = {str(s): s for s in JobState}
_JOB_KINDS = {str(k): k for k in JobKind}


def evaluation_view(row: Any) -> EvaluationView:
    id_, outcome, stage, message, basis, time_ms, baselines, speedup = row
    return EvaluationView(id_, _OUTCOMES[outcome], _STAGES[stage], message, _BASES[basis], time_ms, baselines, speedup)


def tree(connection: Connection, search: int) -> TreeView:
    """Raises NotFound."""
    seed = connection.execute(select(SEARCH.c.seed).where(SEARCH.c.id == search)).scalar()
    if seed is None:
        raise missing(connection, search)
    decisions = select(func.count()).select_from(DECISION).where(DECISION.c.search_id == search)
    nodes = _nodes(connection, search)
    return TreeView(
        search=search,
        seed=seed,
        step=connection.execute(decisions).scalar_one(),
        root=next(iter(nodes)),
        nodes=MappingProxyType(nodes),
        implementations=MappingProxyType(_implementations(connection, search)),
        jobs=_jobs(connection, search),
    )


def _nodes(connection: Connection, search: int) -> dict[int, NodeView]:
    c = NODE.c
    rows = connection.execute(
        select(
            *(c.id, c.parent_id, c.base_id, c.address, c.round, c.idea, c.rationale, c.category),
            *(c.state, c.pruned_because, c.model, c.rating),
        )
        .where(c.search_id == search)
        .order_by(c.id)
    )
    return {
        id_: NodeView(
            *(id_, parent, base, address, round_, Idea(idea, rationale, category)),
            *(_NODE_STATES[state], because, model, rating),
        )
        for id_, parent, base, address, round_, idea, rationale, category, state, because, model, rating in rows
    }


def _implementations(connection: Connection, search: int) -> dict[int, ImplementationView]:
    c = IMPLEMENTATION.c
    evaluations = connection.execute(
        select(*EVALUATION_COLUMNS)
        .join(IMPLEMENTATION, c.evaluation_id == EVALUATION.c.id)
        .where(c.search_id == search, c.duplicate_of.is_(None))
    )
    found = {row[0]: evaluation_view(row) for row in evaluations}
    rows = connection.execute(
        select(c.id, c.node_id, c.address, c.repair_of, c.program, c.duplicate_of, c.model, c.evaluation_id)
        .where(c.search_id == search)
        .order_by(c.id)
    )
    return {
        id_: ImplementationView(id_, node, address, repair_of, program, duplicate_of, model, found.get(evaluation))
        for id_, node, address, repair_of, program, duplicate_of, model, evaluation in rows
    }


def _jobs(connection: Connection, search: int) -> tuple[JobView, ...]:
    """All but evaluations that are done: a strategy must see those that were given up too."""
    c = JOB.c
    rows = connection.execute(
        select(c.id, c.kind, c.state, c.node_id, c.implementation_id, c.key, c.payload, c.reason)
        .where(c.search_id == search, or_(c.kind != str(JobKind.EVALUATE), c.state != str(JobState.DONE)))
        .order_by(c.id)
    )
    return tuple(
        JobView(id_, _JOB_KINDS[kind], _JOB_STATES[state], node, implementation, key, payload, reason)
        for id_, kind, state, node, implementation, key, payload, reason in rows
    )


def code(connection: Connection, program: str) -> str:
    """Raises NotFound."""
    found = connection.execute(select(PROGRAM.c.code).where(PROGRAM.c.hash == program)).scalar()
    if found is None:
        raise NotFound(f"There is no program {program[:12]} in this database.")
    return str(found)
