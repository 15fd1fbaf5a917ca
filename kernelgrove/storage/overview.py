"""The documents of ``run``, ``ls`` and ``best``.

Times are ISO 8601 UTC text; a figure always stands beside its basis, and the best of a search is chosen within one
basis: that of its device where something passed there, else measured before projected before imported. ``show`` has
the documents of single things.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from ..errors import NotFound, UsageError
from ..model import Basis
from .ids import parse, parse_as, show
from .importers.placeholder import attached
from .queries import decode, first, missing, must_exist, rows, value
from .spending import spent
from .store import SqliteStore


def iso(seconds: float | None) -> str | None:
    """``2026-01-31T12:00:00Z``."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(source: str) -> str:
    """Whether a problem has its reference: an imported file may only name it."""
    return "attached" if attached(source) else "not attached"


def find_search(store: SqliteStore, text: str | None) -> int:
    """The search that *text* names: an id (``s1``), a ``--name`` (its latest), or None for the latest of all.

    Raises NotFound, or UsageError for the id of something else.
    """
    if text is None:
        return store.latest_search()
    with store.read() as connection:
        named = value(connection, "SELECT max(id) FROM search WHERE name = :name", name=text)
        if named is not None:
            return int(named)
        try:
            parse(text)
        except UsageError:
            raise NotFound(
                f"{store.location.shown} has no search named {text!r}.", "See `kernelgrove ls`; ids look like s1."
            ) from None
        search = parse_as("s", text)
        must_exist(connection, search)
    return search


# ---------------------------------------------------------------------------------------------- one search

_SEARCH = """
SELECT s.*, p.name AS problem, p.path, d.name AS device, d.basis, d.software
FROM search s JOIN problem p ON p.id = s.problem_id JOIN device d ON d.id = s.device_id WHERE s.id = :search
"""


def search_row(connection: Connection, search: int) -> dict[str, Any]:
    """A search with its problem's and device's names. Raises NotFound."""
    row = first(connection, _SEARCH, search=search)
    if row is None:
        raise missing(connection, search)
    return row


def search_document(store: SqliteStore, search: int) -> dict[str, Any]:
    """What ``run`` and ``resume`` print. ``evaluations`` counts the judged implementations by outcome, reused
    evaluations included, duplicates not. Raises NotFound."""
    with store.read() as connection:
        row = search_row(connection, search)
        costs, _ = spent(connection, search)
        best = next(iter(_leaders(connection, 1, search)), None)
        nodes = value(connection, "SELECT count(*) FROM node WHERE search_id = :search", search=search)
        made = value(connection, "SELECT count(*) FROM implementation WHERE search_id = :search", search=search)
        outcomes = _outcomes(connection, search).get(search, {})
    return {
        "search": show("s", search),
        "name": row["name"],
        "status": row["status"],
        "stopped_by": row["stopped_by"],
        "note": row["note"],
        "problem": row["problem"],
        "reference": _reference(row["instance"]["source"]),
        "device": row["device"],
        "device_key": row["device_key"],
        "target": row["target"],
        "basis": row["basis"],
        "size": row["size_key"],
        "precision": row["precision"],
        "tolerance": row["tolerance"],
        "strategy": row["strategy"],
        "strategy_options": row["strategy_options"],
        "models": row["models"],
        "seed": row["seed"],
        "nodes": nodes,
        "implementations": made,
        "evaluations": outcomes,
        "best": None if best is None else _best_document(best),
        "cost_usd": costs.cost_usd,
        "tokens": {"input": costs.input_tokens, "output": costs.output_tokens},
        "calls": costs.calls,
        "elapsed_s": row["elapsed_s"],
        "created": iso(row["created_at"]),
    }


# Both from one index. (A row of an evaluation, with its JSON, fills a page of the file.)
_OUTCOMES = """
SELECT search_id, outcome, count(*) FROM implementation
WHERE duplicate_of IS NULL AND outcome IS NOT NULL AND search_id BETWEEN :low AND :high
GROUP BY search_id, outcome ORDER BY search_id, outcome
"""


def _outcomes(connection: Connection, search: int | None = None) -> dict[int, dict[str, int]]:
    """search -> outcome -> how many implementations; of all searches when *search* is None."""
    low, high = (1, 2**62) if search is None else (search, search)
    counts: dict[int, dict[str, int]] = {}
    for of, outcome, count in rows(connection, _OUTCOMES, low=low, high=high):
        counts.setdefault(of, {})[outcome] = count
    return counts


# ------------------------------------------------------------------------------------------------- the best

# As the view ``leaderboard`` ranks, without ranking all of it.
_LEADERS = """
SELECT i.id AS implementation_id, i.node_id, i.model, p.name AS problem, n.idea, i.basis, e.id AS evaluation_id,
       e.device_key, e.target, e.time_ms, e.time_low_ms, e.time_high_ms, e.timing, e.eager_ms, e.compile_ms,
       e.speedup_eager, e.speedup_compile, e.provenance
FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id JOIN node n ON n.id = i.node_id
JOIN search s ON s.id = i.search_id JOIN problem p ON p.id = s.problem_id
WHERE i.search_id = :search AND i.outcome = 'ok' AND i.basis = :basis AND i.time_ms IS NOT NULL
      AND i.duplicate_of IS NULL
ORDER BY i.time_ms, length(i.address), i.address LIMIT :k
"""
_OWN_BASIS = "SELECT d.basis FROM search s JOIN device d ON d.id = s.device_id WHERE s.id = :search"


def _leaders(connection: Connection, k: int, search: int) -> list[Any]:
    """The first *k* of *search*, in its one basis, fastest first."""
    own = value(connection, _OWN_BASIS, search=search)
    for basis in dict.fromkeys((own, *map(str, Basis))):
        found = list(rows(connection, _LEADERS, search=search, basis=basis, k=k))
        if found:
            return found
    return []


def _best_document(row: Any) -> dict[str, Any]:
    return {
        "implementation": show("i", row.implementation_id),
        "node": show("n", row.node_id),
        "evaluation": show("e", row.evaluation_id),
        "idea": row.idea,
        "model": row.model,
        "basis": row.basis,
        "time_ms": row.time_ms,
        "time_interval": None if row.time_low_ms is None else [row.time_low_ms, row.time_high_ms],
        "timing": row.timing,
        "baselines": {"eager": row.eager_ms, "compile": row.compile_ms},
        "speedup": {"eager": row.speedup_eager, "compile": row.speedup_compile},
        "provenance": row.provenance,
        "device_key": row.device_key,
        "target": row.target,
    }


_CODE = "SELECT code FROM program JOIN implementation i ON i.program = program.hash WHERE i.id = :id"


def leaders(store: SqliteStore, search: int, k: int) -> list[dict[str, Any]]:
    """The *k* fastest implementations that passed, in one basis, with their code. Raises NotFound."""
    with store.read() as connection:
        must_exist(connection, search)
        return [
            {
                "rank": rank,
                "problem": row.problem,
                "search": show("s", search),
                **_best_document(row),
                "code": value(connection, _CODE, id=row.implementation_id),
            }
            for rank, row in enumerate(_leaders(connection, k, search), 1)
        ]


def best(store: SqliteStore, search: int) -> dict[str, Any] | None:
    """The fastest implementation that passed, with its code; None when none has. Raises NotFound."""
    return next(iter(leaders(store, search, 1)), None)


# ------------------------------------------------------------------------------------------------------ ls

_LIST = """
SELECT s.id, s.name, p.name AS problem, substr(p.source, 1, 80) AS source, s.status, s.stopped_by, s.strategy,
       s.models, d.name AS device, s.target,
       d.basis, s.created_at, s.elapsed_s,
       (SELECT count(*) FROM node n WHERE n.search_id = s.id) AS nodes,
       (SELECT count(*) FROM implementation i WHERE i.search_id = s.id) AS implementations,
       (SELECT sum(cost_usd) FROM completion c WHERE c.search_id = s.id AND c.state NOT IN ('planned', 'sent')) AS cost
FROM search s JOIN problem p ON p.id = s.problem_id JOIN device d ON d.id = s.device_id ORDER BY s.id
"""


def list_document(store: SqliteStore) -> list[dict[str, Any]]:
    """What ``ls`` prints: every search, oldest first. ``best_speedup`` is over eager, in ``basis``."""
    with store.read() as connection:
        searches = rows(connection, _LIST)
        outcomes = _outcomes(connection)
        bests = {row.id: best for row in searches for best in _leaders(connection, 1, row.id)}
    return [
        {
            "search": show("s", row.id),
            "name": row.name,
            "problem": row.problem,
            "reference": _reference(row.source),
            "status": row.status,
            "stopped_by": row.stopped_by,
            "strategy": row.strategy,
            "models": decode(row.models),
            "device": row.device,
            "target": row.target,
            "nodes": row.nodes,
            "implementations": row.implementations,
            "evaluations": outcomes.get(row.id, {}),
            "best_speedup": bests[row.id].speedup_eager if row.id in bests else None,
            "basis": bests[row.id].basis if row.id in bests else row.basis,
            "cost_usd": float(row.cost or 0.0),
            "elapsed_s": row.elapsed_s,
            "created": iso(row.created_at),
        }
        for row in searches
    ]
