"""The documents of ``run``, ``ls``, ``tree`` and ``best``.

Times are ISO 8601 UTC text; a figure always stands beside its basis, and the best of a search is
chosen within one basis: that of its device where something passed there, else measured before projected before
imported. ``show`` has the documents of single things.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, case, func, literal_column, select, table

from ..errors import NotFound, UsageError
from ..model import Basis
from . import ledger, searches, snapshot
from .ids import parse_as, show, show_or_none
from .store import SqliteStore
from .tables import COMPLETION, DEVICE, EVALUATION, IMPLEMENTATION, NODE, PROBLEM, PROGRAM, SEARCH

_BASES = [str(basis) for basis in (Basis.MEASURED, Basis.PROJECTED, Basis.IMPORTED)]


def iso(seconds: float | None) -> str | None:
    """``2026-01-31T12:00:00Z``."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_search(store: SqliteStore, text: str | None) -> int:
    """The search that *text* names: an id (``s1``), a ``--name`` (its latest), or None for the latest of all.

    Raises NotFound, or UsageError for the id of something else.
    """
    if text is None:
        return store.latest_search()
    with store.read() as connection:
        named = connection.execute(select(func.max(SEARCH.c.id)).where(SEARCH.c.name == text)).scalar()
        if named is not None:
            return int(named)
        try:
            search = parse_as("s", text)
        except UsageError as error:
            if text[:1].lower() in "niet" and text[1:].isdigit():
                raise
            raise NotFound(
                f"{store.location.shown} has no search named {text!r}.", "See `kernelgrove ls`; ids look like s1."
            ) from error
        if connection.execute(select(SEARCH.c.id).where(SEARCH.c.id == search)).scalar() is None:
            raise searches.missing(connection, search)
    return search


# ---------------------------------------------------------------------------------------------- one search


def search_document(store: SqliteStore, search: int) -> dict[str, Any]:
    """What ``run`` and ``resume`` print. ``evaluations`` counts the judged implementations by outcome, reused
    evaluations included, duplicates not. Raises NotFound."""
    with store.read() as connection:
        return _search_document(connection, search)


def _search_document(connection: Connection, search: int) -> dict[str, Any]:
    row = _search_row(connection, search)
    spent = ledger.spent(connection, search)
    best = _bests(connection, [search]).get(search)
    return {
        "search": show("s", search),
        "name": row.name,
        "status": row.status,
        "stopped_by": row.stopped_by,
        "note": row.note,
        "problem": row.problem,
        "device": row.device,
        "device_key": row.device_key,
        "target": row.target,
        "basis": row.basis,
        "size": row.size_key,
        "precision": row.precision,
        "tolerance": row.tolerance,
        "strategy": row.strategy,
        "strategy_options": row.strategy_options,
        "models": row.models,
        "seed": row.seed,
        "nodes": _count(connection, NODE, search),
        "implementations": _count(connection, IMPLEMENTATION, search),
        "evaluations": _outcomes(connection, [search]).get(search, {}),
        "best": None if best is None else _best_document(best),
        "cost_usd": spent.cost_usd,
        "tokens": {"input": spent.input_tokens, "output": spent.output_tokens},
        "calls": spent.calls,
        "elapsed_s": row.elapsed_s,
        "created": iso(row.created_at),
    }


def _search_row(connection: Connection, search: int) -> Any:
    row = connection.execute(
        select(SEARCH, PROBLEM.c.name.label("problem"), DEVICE.c.name.label("device"), DEVICE.c.basis)
        .join(PROBLEM, PROBLEM.c.id == SEARCH.c.problem_id)
        .join(DEVICE, DEVICE.c.id == SEARCH.c.device_id)
        .where(SEARCH.c.id == search)
    ).first()
    if row is None:
        raise searches.missing(connection, search)
    return row


def _count(connection: Connection, of: Any, search: int) -> int:
    return int(connection.execute(select(func.count()).select_from(of).where(of.c.search_id == search)).scalar_one())


def _outcomes(connection: Connection, of: Iterable[int] | None = None) -> dict[int, dict[str, int]]:
    """search -> outcome -> how many implementations; of all searches when *of* is None."""
    statement = (
        select(IMPLEMENTATION.c.search_id, EVALUATION.c.outcome, func.count())
        .join(EVALUATION, EVALUATION.c.id == IMPLEMENTATION.c.evaluation_id)
        .where(IMPLEMENTATION.c.duplicate_of.is_(None))
        .group_by(IMPLEMENTATION.c.search_id, EVALUATION.c.outcome)
        .order_by(IMPLEMENTATION.c.search_id, EVALUATION.c.outcome)
    )
    if of is not None:
        statement = statement.where(IMPLEMENTATION.c.search_id.in_(list(of)))
    counts: dict[int, dict[str, int]] = {}
    for search, outcome, count in connection.execute(statement):
        counts.setdefault(search, {})[outcome] = count
    return counts


# ------------------------------------------------------------------------------------------------- the best


def _leaders(connection: Connection, of: Iterable[int] | None, k: int) -> list[Any]:
    """The view's first *k* of each search and basis, with the basis the search prefers in front."""
    view = table("leaderboard")
    order = case(
        (literal_column("leaderboard.basis") == DEVICE.c.basis, -1),
        *((literal_column("leaderboard.basis") == basis, place) for place, basis in enumerate(_BASES)),
    )
    statement: Select[Any] = (
        select(literal_column("leaderboard.*"))
        .select_from(view)
        .join(SEARCH, SEARCH.c.id == literal_column("leaderboard.search_id"))
        .join(DEVICE, DEVICE.c.id == SEARCH.c.device_id)
        .where(literal_column("leaderboard.rank") <= k)
        .order_by(literal_column("leaderboard.search_id"), order, literal_column("leaderboard.rank"))
    )
    if of is not None:
        statement = statement.where(literal_column("leaderboard.search_id").in_(list(of)))
    return list(connection.execute(statement))


def _bests(connection: Connection, of: Iterable[int] | None = None) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for row in _leaders(connection, of, 1):
        found.setdefault(row.search_id, row)
    return found


def _best_document(row: Any) -> dict[str, Any]:
    return {
        "implementation": show("i", row.implementation_id),
        "node": show("n", row.node_id),
        "evaluation": show("e", row.evaluation_id),
        "idea": row.idea,
        "model": row.model,
        "basis": row.basis,
        "time_ms": row.time_ms,
        "baselines": {"eager": row.eager_ms, "compile": row.compile_ms},
        "speedup": {"eager": row.speedup_eager, "compile": row.speedup_compile},
        "provenance": row.provenance,
        "device_key": row.device_key,
        "target": row.target,
    }


def leaders(store: SqliteStore, search: int, k: int) -> list[dict[str, Any]]:
    """The *k* fastest implementations that passed, in one basis, with their code. Raises NotFound."""
    with store.read() as connection:
        _search_row(connection, search)
        rows = _leaders(connection, [search], k)
        return [
            {
                "rank": row.rank,
                "problem": row.problem,
                "search": show("s", search),
                **_best_document(row),
                "code": connection.execute(
                    select(PROGRAM.c.code)
                    .join(IMPLEMENTATION, IMPLEMENTATION.c.program == PROGRAM.c.hash)
                    .where(IMPLEMENTATION.c.id == row.implementation_id)
                ).scalar_one(),
            }
            for row in rows
            if row.basis == rows[0].basis
        ]


def best(store: SqliteStore, search: int) -> dict[str, Any] | None:
    """The fastest implementation that passed, with its code; None when none has. Raises NotFound."""
    return next(iter(leaders(store, search, 1)), None)


# ------------------------------------------------------------------------------------------------ ls, tree


def list_document(store: SqliteStore) -> list[dict[str, Any]]:
    """What ``ls`` prints: every search, oldest first. ``best_speedup`` is over eager, in ``basis``."""
    with store.read() as connection:
        rows = connection.execute(
            select(
                *(SEARCH.c.id, SEARCH.c.name, SEARCH.c.status, SEARCH.c.stopped_by, SEARCH.c.strategy),
                *(SEARCH.c.models, SEARCH.c.target, SEARCH.c.created_at, SEARCH.c.elapsed_s),
                *(PROBLEM.c.name.label("problem"), DEVICE.c.name.label("device"), DEVICE.c.basis),
            )
            .join(PROBLEM, PROBLEM.c.id == SEARCH.c.problem_id)
            .join(DEVICE, DEVICE.c.id == SEARCH.c.device_id)
            .order_by(SEARCH.c.id)
        ).all()
        nodes = _counts(connection, NODE)
        implementations = _counts(connection, IMPLEMENTATION)
        outcomes, bests = _outcomes(connection), _bests(connection)
        open_ = COMPLETION.c.state.not_in(ledger.OPEN)
        spent = connection.execute(
            select(COMPLETION.c.search_id, func.sum(COMPLETION.c.cost_usd)).where(open_).group_by("search_id")
        )
        costs = {row[0]: row[1] for row in spent}
    return [
        {
            "search": show("s", row.id),
            "name": row.name,
            "problem": row.problem,
            "status": row.status,
            "stopped_by": row.stopped_by,
            "strategy": row.strategy,
            "models": row.models,
            "device": row.device,
            "target": row.target,
            "nodes": nodes.get(row.id, 0),
            "implementations": implementations.get(row.id, 0),
            "evaluations": outcomes.get(row.id, {}),
            "best_speedup": bests[row.id].speedup_eager if row.id in bests else None,
            "basis": bests[row.id].basis if row.id in bests else row.basis,
            "cost_usd": float(costs.get(row.id) or 0.0),
            "elapsed_s": row.elapsed_s,
            "created": iso(row.created_at),
        }
        for row in rows
    ]


def _counts(connection: Connection, of: Any) -> dict[int, int]:
    rows = connection.execute(select(of.c.search_id, func.count()).group_by(of.c.search_id))
    return {row[0]: row[1] for row in rows}


def tree_document(store: SqliteStore, search: int) -> dict[str, Any]:
    """What ``tree`` prints: nodes and implementations by id, so parents come first. Raises NotFound."""
    with store.read() as connection:
        row = _search_row(connection, search)
        view = snapshot.tree(connection, search)
    made: dict[int, list[dict[str, Any]]] = {}
    for i in view.implementations.values():
        e = i.evaluation
        made.setdefault(i.node, []).append(
            {
                "id": show("i", i.id),
                "address": i.address,
                "repair_of": show_or_none("i", i.repair_of),
                "duplicate_of": show_or_none("i", i.duplicate_of),
                "model": i.model,
                "evaluation": None if e is None else show("e", e.id),
                "outcome": None if e is None else str(e.outcome),
                "stage": None if e is None else str(e.stage),
                "message": None if e is None else e.message,
                "basis": None if e is None else str(e.basis),
                "time_ms": None if e is None else e.time_ms,
                "speedup": None if e is None or not e.speedup else dict(e.speedup),
            }
        )
    return {
        "search": show("s", search),
        "problem": row.problem,
        "status": row.status,
        "target": row.target,
        "basis": row.basis,
        "root": show("n", view.root),
        "nodes": [
            {
                "id": show("n", n.id),
                "parent": show_or_none("n", n.parent),
                "base": show_or_none("i", n.base),
                "address": n.address,
                "round": n.round,
                "idea": n.idea.text,
                "rationale": n.idea.rationale,
                "category": n.idea.category,
                "model": n.model,
                "rating": n.rating,
                "state": str(n.state),
                "pruned_because": n.pruned_because,
                "implementations": made.get(n.id, []),
            }
            for n in view.nodes.values()
        ],
    }
