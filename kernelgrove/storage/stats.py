"""The document of ``stats``: what came of a search, by outcome, model and category, where its time went, and when it
improved."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from .ids import show
from .overview import search_row
from .queries import rows
from .spending import spent
from .store import SqliteStore

# An implementation counts once, by its own evaluation; a duplicate was not judged, and is counted as one.
_MADE = """
SELECT {by} AS by, count(*) AS made,
       sum(i.duplicate_of IS NOT NULL) AS duplicates,
       sum(i.duplicate_of IS NULL AND e.id IS NOT NULL) AS judged,
       sum(i.duplicate_of IS NULL AND e.outcome = 'ok') AS ok,
       min(CASE WHEN e.basis = :basis THEN e.time_ms END) AS best_ms,
       max(CASE WHEN e.basis = :basis THEN e.speedup_eager END) AS best_speedup
FROM implementation i JOIN node n ON n.id = i.node_id LEFT JOIN evaluation e ON e.id = i.evaluation_id
WHERE i.search_id = :search GROUP BY 1 ORDER BY made DESC, 1
"""
_IDEAS = "SELECT category, count(*), sum(state = 'pruned') FROM node WHERE search_id = :search GROUP BY category"
_OUTCOMES = """
SELECT e.outcome, count(*), sum(e.wall_s) FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id
WHERE i.search_id = :search AND i.duplicate_of IS NULL GROUP BY e.outcome ORDER BY count(*) DESC, e.outcome
"""
_WORK = """
SELECT kind, count(*) AS jobs, sum(state = 'done') AS done, sum(state IN ('failed', 'dead')) AS given_up,
       sum(state IN ('queued', 'leased')) AS waiting, sum(max(attempt - 1, 0)) AS again,
       sum(CASE WHEN finished_at >= started_at THEN finished_at - started_at END) AS seconds
FROM job WHERE search_id = :search GROUP BY kind ORDER BY kind
"""
_COSTS = """
SELECT model, count(*), sum(cost_usd), sum(tokens), sum(cost_usd IS NULL) FROM completion
WHERE search_id = :search AND state NOT IN ('planned', 'sent', 'abandoned') GROUP BY model ORDER BY model
"""
# Evaluations in the order in which they came; one that was reused counts where it was first used.
_COURSE = """
SELECT i.id, n.id, n.idea, e.time_ms, e.speedup_eager FROM implementation i
JOIN evaluation e ON e.id = i.evaluation_id JOIN node n ON n.id = i.node_id
WHERE i.search_id = :search AND i.duplicate_of IS NULL AND (e.basis = :basis OR e.outcome <> 'ok')
ORDER BY max(e.created_at, i.created_at), e.id
"""


def stats_document(store: SqliteStore, search: int) -> dict[str, Any]:
    """What ``stats`` prints. Seconds are of work, which runs several jobs at once, so their sum may exceed the time
    that the search took. Raises NotFound."""
    with store.read() as connection:
        row = search_row(connection, search)
        basis = row["basis"]
        outcomes = rows(connection, _OUTCOMES, search=search)
        work = rows(connection, _WORK, search=search)
        costs, _ = spent(connection, search)
        course = _course(connection, search, basis)
        ideas = {category: (count, pruned) for category, count, pruned in rows(connection, _IDEAS, search=search)}
        by_model = _groups(connection, search, basis, "i.model")
        by_category = _groups(connection, search, basis, "n.category")
        by_call = rows(connection, _COSTS, search=search)
    for group in by_category:
        group["ideas"], group["pruned"] = ideas.pop(group["by"], (0, 0))
    by_category += [
        {"by": category, "made": 0, "duplicates": 0, "judged": 0, "ok": 0, "best_ms": None, "best_speedup": None}
        | {"ideas": count, "pruned": pruned}
        for category, (count, pruned) in sorted(ideas.items())
    ]
    return {
        "search": show("s", search),
        "problem": row["problem"],
        "status": row["status"],
        "basis": basis,
        "target": row["target"],
        "nodes": sum(group["ideas"] for group in by_category),
        "implementations": sum(group["made"] for group in by_category),
        "judged": course["judged"],
        "outcomes": [{"outcome": name, "count": count, "wall_s": seconds} for name, count, seconds in outcomes],
        "models": by_model,
        "categories": by_category,
        "work": [{**row._mapping, "seconds": row.seconds or 0.0} for row in work],
        "elapsed_s": row["elapsed_s"],
        "cost_usd": costs.cost_usd,
        "calls": [
            {"model": model, "calls": calls, "cost_usd": cost, "tokens": tokens or 0, "unpriced": unpriced}
            for model, calls, cost, tokens, unpriced in by_call
        ],
        "improvements": course["improvements"],
        "since_best": course["since_best"],
    }


def _groups(connection: Connection, search: int, basis: str, by: str) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in rows(connection, _MADE.format(by=by), search=search, basis=basis)]


def _course(connection: Connection, search: int, basis: str) -> dict[str, Any]:
    """Every evaluation that was faster than all before it, and how many have come since the last."""
    improvements: list[dict[str, Any]] = []
    best: float | None = None
    judged = 0
    for judged, (made, node, idea, time_ms, speedup) in enumerate(
        rows(connection, _COURSE, search=search, basis=basis), 1
    ):
        if time_ms is None or (best is not None and time_ms >= best):
            continue
        improvements.append(
            {
                "evaluations": judged,
                "implementation": show("i", made),
                "node": show("n", node),
                "idea": idea,
                "time_ms": time_ms,
                "speedup": speedup,
                "gain": None if best is None else best / time_ms,
            }
        )
        best = time_ms
    since = judged - improvements[-1]["evaluations"] if improvements else judged
    return {"judged": judged, "improvements": improvements, "since_best": since}
