"""The document of one thing, by its id: ``show s1``, ``n2``, ``i3``, ``e4`` or ``t5``. Only reads."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from ..errors import NotFound
from . import views
from .ids import KINDS, parse, show, show_or_none
from .overview import iso, search_document, search_row
from .queries import decode, first, rows, value
from .store import SqliteStore


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


def _one(connection: Connection, kind: str, number: int, sql: str = "") -> dict[str, Any]:
    row = first(connection, sql or f"SELECT * FROM {KINDS[kind]} WHERE id = :id", id=number)
    if row is None:
        raise NotFound(f"There is no {KINDS[kind]} {show(kind, number)} in this database.", "See `kernelgrove tree`.")
    return row


def _search(store: SqliteStore, search: int) -> dict[str, Any]:
    with store.read() as connection:
        row = search_row(connection, search)
        jobs = rows(
            connection,
            "SELECT id, kind, state, reason FROM job WHERE search_id = :search AND state <> 'done' ORDER BY id",
            search=search,
        )
    return {
        "options": row["options"],
        "path": row["path"],
        "protocol": row["protocol"],
        "software": row["software"],
        "source": row["instance"]["source"],
        "jobs": [{"job": show("t", j.id), "kind": j.kind, "state": j.state, "reason": j.reason} for j in jobs],
    }


_LINEAGE = """
WITH RECURSIVE up(id, parent_id, base_id, idea, category, height) AS (
    SELECT id, parent_id, base_id, idea, category, 0 FROM node WHERE id = :node
    UNION ALL
    SELECT n.id, n.parent_id, n.base_id, n.idea, n.category, up.height + 1 FROM node n JOIN up ON n.id = up.parent_id)
SELECT id, base_id, idea, category FROM up ORDER BY height DESC
"""


def _lineage(connection: Connection, node: int) -> list[dict[str, Any]]:
    """From the root to *node*, both included."""
    return [
        {"node": show("n", row.id), "idea": row.idea, "category": row.category, "base": show_or_none("i", row.base_id)}
        for row in rows(connection, _LINEAGE, node=node)
    ]


def _node(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "n", number)
    children = rows(connection, "SELECT id, idea FROM node WHERE parent_id = :node ORDER BY id", node=number)
    made = rows(connection, "SELECT * FROM implementation WHERE node_id = :node ORDER BY id", node=number)
    return {
        "node": show("n", number),
        "search": show("s", row["search_id"]),
        "parent": show_or_none("n", row["parent_id"]),
        "base": show_or_none("i", row["base_id"]),
        "address": row["address"],
        "round": row["round"],
        "idea": row["idea"],
        "rationale": row["rationale"],
        "category": row["category"],
        "model": row["model"],
        "rating": row["rating"],
        "state": row["state"],
        "pruned_because": row["pruned_because"],
        "job": show_or_none("t", row["job_id"]),
        "lineage": _lineage(connection, number),
        "children": [{"node": show("n", child.id), "idea": child.idea} for child in children],
        "implementations": [_brief(connection, implementation._mapping) for implementation in made],
        "created": iso(row["created_at"]),
    }


def _made(row: Any) -> dict[str, Any]:
    return {
        "implementation": show("i", row["id"]),
        "address": row["address"],
        "repair_of": show_or_none("i", row["repair_of"]),
        "duplicate_of": show_or_none("i", row["duplicate_of"]),
        "model": row["model"],
        "note": row["note"],
        "program": row["program"],
    }


def _brief(connection: Connection, row: Any) -> dict[str, Any]:
    """An implementation among those of its node: what came of it, without the code."""
    found = None if row["evaluation_id"] is None else views.evaluation(connection, row["evaluation_id"])
    return _made(row) | {
        "evaluation": None if found is None else show("e", found.id),
        "outcome": None if found is None else str(found.outcome),
        "message": None if found is None else found.message,
        "basis": None if found is None else str(found.basis),
        "time_ms": None if found is None else found.time_ms,
        "speedup": None if found is None or not found.speedup else dict(found.speedup),
    }


_ALL_EVALUATIONS = """
SELECT e.id, e.outcome, e.basis, e.time_ms, e.speedup, e.device_key, e.target, e.created_at
FROM evaluation e JOIN search s ON s.problem_digest = e.problem_digest
WHERE s.id = :search AND e.program = :program ORDER BY e.id
"""


def _line(row: Any) -> dict[str, Any]:
    """One evaluation among all of its program."""
    return {
        "evaluation": show("e", row.id),
        "outcome": row.outcome,
        "basis": row.basis,
        "time_ms": row.time_ms,
        "speedup": decode(row.speedup),
        "device_key": row.device_key,
        "target": row.target,
        "created": iso(row.created_at),
    }


def _implementation(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "i", number)
    node = _one(connection, "n", row["node_id"])
    repairs = rows(connection, "SELECT id FROM implementation WHERE repair_of = :id ORDER BY id", id=number)
    measured = rows(connection, _ALL_EVALUATIONS, search=row["search_id"], program=row["program"])
    return _made(row) | {
        "search": show("s", row["search_id"]),
        "node": show("n", row["node_id"]),
        "idea": node["idea"],
        "rationale": node["rationale"],
        "category": node["category"],
        "lineage": _lineage(connection, row["node_id"]),
        "repairs": [show("i", repair.id) for repair in repairs],
        "evaluation": None if row["evaluation_id"] is None else _evaluation(connection, row["evaluation_id"]),
        "evaluations": [show("e", evaluation.id) for evaluation in measured],
        "history": [_line(evaluation) for evaluation in measured],
        "job": show_or_none("t", row["job_id"]),
        "code": views.code(connection, row["program"]),
        "created": iso(row["created_at"]),
    }


_EVALUATION = """
SELECT e.*, d.name AS device, d.software FROM evaluation e JOIN device d ON d.id = e.device_id WHERE e.id = :id
"""
_AS_THEY_ARE = (
    "program device device_key target software precision tolerance protocol outcome stage message max_error basis"
    " time_ms timing time_stats baselines speedup provenance advice wall_s"
).split()


def _evaluation(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "e", number, _EVALUATION)
    digest = row["problem_digest"]
    used = rows(connection, "SELECT id FROM implementation WHERE evaluation_id = :id ORDER BY id", id=number)
    return {
        "evaluation": show("e", number),
        "search": show_or_none("s", row["search_id"]),
        "implementations": [show("i", implementation.id) for implementation in used],
        "problem": value(connection, "SELECT name FROM problem WHERE digest = :digest ORDER BY id", digest=digest),
        "size": row["size_key"],
        "remeasures": show_or_none("e", row["remeasures"]),
        "time_interval": None if row["time_low_ms"] is None else [row["time_low_ms"], row["time_high_ms"]],
        "trials": {"passed": row["trials_passed"], "of": row["trials_of"]},
        **{name: row[name] for name in _AS_THEY_ARE},
        "sandbox": row["detail"].get("sandbox"),
        "detail": row["detail"],
        "created": iso(row["created_at"]),
    }


def _job(connection: Connection, number: int) -> dict[str, Any]:
    row = _one(connection, "t", number)
    calls = rows(connection, "SELECT * FROM completion WHERE job_id = :job ORDER BY id", job=number)
    return {
        "job": show("t", number),
        "search": show("s", row["search_id"]),
        "kind": row["kind"],
        "key": row["key"],
        "node": show_or_none("n", row["node_id"]),
        "implementation": show_or_none("i", row["implementation_id"]),
        "payload": row["payload"],
        "state": row["state"],
        "attempt": row["attempt"],
        "max_attempts": row["max_attempts"],
        "owner": row["owner"],
        "reason": row["reason"],
        "model": row["model"],
        "note": row["note"],
        "created": iso(row["created_at"]),
        "started": iso(row["started_at"]),
        "finished": iso(row["finished_at"]),
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
