"""The document of one thing, by its id: ``show s1``, ``n2``, ``i3``, ``e4`` or ``t5``. Only reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from ..errors import NotFound
from . import searches, snapshot
from .ids import KINDS, parse, show, show_or_none
from .overview import iso, search_document
from .store import SqliteStore
from .tables import COMPLETION, DEVICE, EVALUATION, IMPLEMENTATION, JOB, NODE, PROBLEM, SEARCH


def show_document(store: SqliteStore, text: str) -> dict[str, Any]:
    """Everything kept of the thing that *text* names. Raises UsageError for nonsense, NotFound."""
    kind, number = parse(text)
    if kind == "s":
        return {**search_document(store, number), **_search(store, number)}
    with store.read() as connection:
        match kind:
            case "n":
                return _node(connection, number)
            case "i":
                return _implementation(connection, number)
            case "e":
                return _evaluation(connection, number)
            case _:
                return _job(connection, number)


def _one(connection: Connection, kind: str, number: int, statement: Any) -> Any:
    row = connection.execute(statement).first()
    if row is None:
        raise NotFound(f"There is no {KINDS[kind]} {show(kind, number)} in this database.", "See `kernelgrove tree`.")
    return row


def _search(store: SqliteStore, search: int) -> dict[str, Any]:
    with store.read() as connection:
        spec = searches.load(connection, search).spec
        queued = connection.execute(
            select(JOB.c.id, JOB.c.kind, JOB.c.state, JOB.c.reason)
            .where(JOB.c.search_id == search, JOB.c.state != "done")
            .order_by(JOB.c.id)
        ).all()
    return {
        "options": dict(spec.options),
        "path": spec.problem.path,
        "protocol": spec.protocol,
        "software": dict(spec.device.software),
        "source": spec.instance.source,
        "jobs": [{"job": show("t", j.id), "kind": j.kind, "state": j.state, "reason": j.reason} for j in queued],
    }


def _lineage(connection: Connection, node: int | None) -> list[dict[str, Any]]:
    """From the root to *node*, both included."""
    path: list[dict[str, Any]] = []
    while node is not None:
        row = connection.execute(select(NODE).where(NODE.c.id == node)).one()
        path.append(
            {
                "node": show("n", row.id),
                "idea": row.idea,
                "category": row.category,
                "base": show_or_none("i", row.base_id),
            }
        )
        node = row.parent_id
    return path[::-1]


def _node(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "n", number, select(NODE).where(NODE.c.id == number))
    children = connection.execute(select(NODE.c.id, NODE.c.idea).where(NODE.c.parent_id == number).order_by(NODE.c.id))
    made = connection.execute(
        select(IMPLEMENTATION.c.id).where(IMPLEMENTATION.c.node_id == number).order_by(IMPLEMENTATION.c.id)
    ).scalars()
    return {
        "node": show("n", number),
        "search": show("s", row.search_id),
        "parent": show_or_none("n", row.parent_id),
        "base": show_or_none("i", row.base_id),
        "address": row.address,
        "round": row.round,
        "idea": row.idea,
        "rationale": row.rationale,
        "category": row.category,
        "model": row.model,
        "rating": row.rating,
        "state": row.state,
        "pruned_because": row.pruned_because,
        "job": show_or_none("t", row.job_id),
        "lineage": _lineage(connection, number),
        "children": [{"node": show("n", child.id), "idea": child.idea} for child in children],
        "implementations": [_implementation(connection, i, brief=True) for i in made],
        "created": iso(row.created_at),
    }


def _implementation(connection: Connection, number: int, *, brief: bool = False) -> dict[str, Any]:
    """*brief* leaves out what its node's document says already, and the code."""
    row = _one(connection, "i", number, select(IMPLEMENTATION).where(IMPLEMENTATION.c.id == number))
    document: dict[str, Any] = {
        "implementation": show("i", number),
        "address": row.address,
        "repair_of": show_or_none("i", row.repair_of),
        "duplicate_of": show_or_none("i", row.duplicate_of),
        "model": row.model,
        "note": row.note,
        "program": row.program,
    }
    if brief:
        found = None
        if row.evaluation_id is not None:
            evaluation = select(*snapshot.EVALUATION_COLUMNS).where(EVALUATION.c.id == row.evaluation_id)
            found = snapshot.evaluation_view(connection.execute(evaluation).one())
        return document | {
            "evaluation": None if found is None else show("e", found.id),
            "outcome": None if found is None else str(found.outcome),
            "message": None if found is None else found.message,
            "basis": None if found is None else str(found.basis),
            "time_ms": None if found is None else found.time_ms,
            "speedup": None if found is None else dict(found.speedup),
        }
    node = connection.execute(select(NODE).where(NODE.c.id == row.node_id)).one()
    repairs = connection.execute(select(IMPLEMENTATION.c.id).where(IMPLEMENTATION.c.repair_of == number)).scalars()
    same = connection.execute(
        select(EVALUATION.c.id)
        .join(SEARCH, SEARCH.c.problem_digest == EVALUATION.c.problem_digest)
        .where(SEARCH.c.id == row.search_id, EVALUATION.c.program == row.program)
        .order_by(EVALUATION.c.id)
    ).scalars()
    return document | {
        "search": show("s", row.search_id),
        "node": show("n", row.node_id),
        "idea": node.idea,
        "rationale": node.rationale,
        "category": node.category,
        "lineage": _lineage(connection, row.node_id),
        "repairs": [show("i", repair) for repair in repairs],
        "evaluation": None if row.evaluation_id is None else _evaluation(connection, row.evaluation_id),
        "evaluations": [show("e", evaluation) for evaluation in same],
        "job": show_or_none("t", row.job_id),
        "code": snapshot.code(connection, row.program),
        "created": iso(row.created_at),
    }


def _evaluation(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(
        connection,
        "e",
        number,
        select(EVALUATION, DEVICE.c.name.label("device"), DEVICE.c.software)
        .join(DEVICE, DEVICE.c.id == EVALUATION.c.device_id)
        .where(EVALUATION.c.id == number),
    )
    problem = connection.execute(select(PROBLEM.c.name).where(PROBLEM.c.digest == row.problem_digest).limit(1)).scalar()
    used = connection.execute(
        select(IMPLEMENTATION.c.id).where(IMPLEMENTATION.c.evaluation_id == number).order_by(IMPLEMENTATION.c.id)
    ).scalars()
    return {
        "evaluation": show("e", number),
        "search": show_or_none("s", row.search_id),
        "implementations": [show("i", i) for i in used],
        "program": row.program,
        "problem": problem,
        "size": row.size_key,
        "device": row.device,
        "device_key": row.device_key,
        "target": row.target,
        "software": row.software,
        "precision": row.precision,
        "tolerance": row.tolerance,
        "protocol": row.protocol,
        "outcome": row.outcome,
        "stage": row.stage,
        "message": row.message,
        "trials": {"passed": row.trials_passed, "of": row.trials_of},
        "max_error": row.max_error,
        "basis": row.basis,
        "time_ms": row.time_ms,
        "time_stats": row.time_stats,
        "baselines": row.baselines,
        "speedup": row.speedup,
        "provenance": row.provenance,
        "advice": row.advice,
        "wall_s": row.wall_s,
        "sandbox": row.detail.get("sandbox"),
        "detail": row.detail,
        "created": iso(row.created_at),
    }


def _job(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "t", number, select(JOB).where(JOB.c.id == number))
    calls = connection.execute(select(COMPLETION).where(COMPLETION.c.job_id == number).order_by(COMPLETION.c.id))
    return {
        "job": show("t", number),
        "search": show("s", row.search_id),
        "kind": row.kind,
        "key": row.key,
        "node": show_or_none("n", row.node_id),
        "implementation": show_or_none("i", row.implementation_id),
        "payload": row.payload,
        "state": row.state,
        "attempt": row.attempt,
        "max_attempts": row.max_attempts,
        "owner": row.owner,
        "reason": row.reason,
        "model": row.model,
        "note": row.note,
        "created": iso(row.created_at),
        "started": iso(row.started_at),
        "finished": iso(row.finished_at),
        "completions": [
            {
                "model": call.model,
                "state": call.state,
                "attempt": call.attempt,
                "cost_usd": call.cost_usd,
                "tokens": {"input": call.input_tokens, "output": call.output_tokens},
                "error": call.error,
                "request": call.request,
                "response": call.response,
            }
            for call in calls
        ],
    }
