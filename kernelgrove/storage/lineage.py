"""The document of ``lineage``: the steps from the reference to one implementation, and what each gained.

The path is that of the ideas, from the root down. At each idea stands the implementation that the next one builds
on (none where that is the reference itself; one of another branch comes as a step of its own); at the last, the one
that was asked for. What an implementation repairs comes before it. Figures are of one basis and one
device throughout: a step that was judged elsewhere shows no figure, and the gain of the next skips it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from ..errors import NotFound, UsageError
from .ids import KINDS, parse, show, show_or_none
from .overview import search_row
from .queries import first, rows, value
from .store import SqliteStore

_IMPLEMENTATION = """
SELECT i.id, i.node_id, i.search_id, i.repair_of, i.duplicate_of, i.model, e.id AS evaluation_id, e.outcome, e.basis,
       e.device_key, e.target, e.time_ms, e.eager_ms, e.speedup_eager, e.speedup_compile
FROM implementation i LEFT JOIN evaluation e ON e.id = i.evaluation_id WHERE i.id = :id
"""
# The fastest of a node; where none has passed, the newest that was judged, else the newest.
_BEST_OF = """
SELECT i.id FROM implementation i LEFT JOIN evaluation e ON e.id = i.evaluation_id WHERE i.node_id = :node
ORDER BY e.time_ms IS NULL OR e.basis <> :basis, e.time_ms, e.id IS NULL, -i.id LIMIT 1
"""
_PATH = """
WITH RECURSIVE up(id, parent_id, height) AS (
    SELECT id, parent_id, 0 FROM node WHERE id = :node
    UNION ALL
    SELECT n.id, n.parent_id, up.height + 1 FROM node n JOIN up ON n.id = up.parent_id)
SELECT n.id, n.base_id, n.idea, n.rationale, n.category, n.round
FROM up JOIN node n ON n.id = up.id ORDER BY up.height DESC
"""
_IDEA = "SELECT id, base_id, idea, rationale, category, round FROM node WHERE id = :node"


def lineage_document(store: SqliteStore, text: str) -> dict[str, Any]:
    """What ``lineage`` prints for ``i3`` or ``n2`` (its best implementation). Raises UsageError for another kind of
    id, NotFound."""
    kind, number = parse(text)
    if kind not in "ni":
        raise UsageError(
            f"{text} is {'an' if kind == 'e' else 'a'} {KINDS[kind]}: a lineage is that of an idea or an "
            "implementation.",
            "Give an id like n2 or i3.",
        )
    with store.read() as connection:
        node, asked = _start(connection, kind, number)
        found = value(connection, "SELECT search_id FROM node WHERE id = :node", node=node)
        search = search_row(connection, found)
        last = None if asked is None else first(connection, _IMPLEMENTATION, id=asked)
        judged = last if last is not None and last["basis"] is not None else None
        basis = judged["basis"] if judged else search["basis"]
        device = judged["device_key"] if judged else search["device_key"]
        if asked is None:
            asked = value(connection, _BEST_OF, node=node, basis=basis)
        steps = _steps(connection, node, asked, basis, device)
    eager = next((step["eager_ms"] for step in reversed(steps) if step["eager_ms"] is not None), None)
    _add_gains(steps, eager)
    timed = [step for step in steps if step["time_ms"] is not None]
    return {
        "of": text.strip().lower(),
        "search": show("s", search["id"]),
        "problem": search["problem"],
        "basis": basis,
        "device_key": device,
        "target": search["target"],
        "eager_ms": eager,
        "steps": steps,
        "total_gain": eager / timed[-1]["time_ms"] if timed and eager else None,
    }


def _start(connection: Connection, kind: str, number: int) -> tuple[int, int | None]:
    """The node where the path ends, and the implementation that was asked for."""
    sql = "SELECT id FROM node" if kind == "n" else "SELECT node_id FROM implementation"
    node = value(connection, f"{sql} WHERE id = :id", id=number)
    if node is None:
        raise NotFound(f"There is no {KINDS[kind]} {show(kind, number)} in this database.", "See `kernelgrove tree`.")
    return int(node), number if kind == "i" else None


def _steps(connection: Connection, node: int, asked: int | None, basis: str, device: str) -> list[dict[str, Any]]:
    path = rows(connection, _PATH, node=node)
    steps: list[dict[str, Any]] = []
    for idea, following in zip(path, [*path[1:], None], strict=True):
        chosen = asked if following is None else following.base_id
        home = None if chosen is None else _node_of(connection, chosen)
        if home != idea.id:  # the next idea builds on the reference itself, or on another branch
            steps.append(_step(idea, None, basis, device))
        if home is not None:
            of = idea if home == idea.id else rows(connection, _IDEA, node=home)[0]
            steps += [_step(of, made, basis, device) for made in _repairs(connection, chosen)]
    return steps


def _node_of(connection: Connection, implementation: int) -> int | None:
    found = value(connection, "SELECT node_id FROM implementation WHERE id = :id", id=implementation)
    return None if found is None else int(found)


def _repairs(connection: Connection, implementation: int | None) -> list[dict[str, Any]]:
    """*implementation* after those it repairs, the first first."""
    chain: list[dict[str, Any]] = []
    seen: set[int] = set()
    while implementation is not None and implementation not in seen:
        seen.add(implementation)
        row = first(connection, _IMPLEMENTATION, id=implementation)
        if row is None:
            break
        chain.insert(0, row)
        implementation = row["repair_of"]
    return chain


def _step(idea: Any, made: dict[str, Any] | None, basis: str, device: str) -> dict[str, Any]:
    comparable = made is not None and made["basis"] == basis and made["device_key"] == device
    figures = made if made is not None and comparable else {}
    return {
        "node": show("n", idea.id),
        "idea": idea.idea,
        "rationale": idea.rationale,
        "category": idea.category,
        "round": idea.round,
        "builds_on": show_or_none("i", idea.base_id),
        "implementation": None if made is None else show("i", made["id"]),
        "repair_of": None if made is None else show_or_none("i", made["repair_of"]),
        "duplicate_of": None if made is None else show_or_none("i", made["duplicate_of"]),
        "model": None if made is None else made["model"],
        "evaluation": None if made is None else show_or_none("e", made["evaluation_id"]),
        "outcome": None if made is None else made["outcome"],
        "basis": None if made is None else made["basis"],
        "time_ms": figures.get("time_ms"),
        "eager_ms": figures.get("eager_ms"),
        "speedup": {"eager": figures.get("speedup_eager"), "compile": figures.get("speedup_compile")},
        "gain": None,
    }


def _add_gains(steps: list[dict[str, Any]], eager: float | None) -> None:
    """``gain``: the time of the last step that has one (the reference's own at first) ÷ this one's."""
    before = eager
    for step in steps:
        now = step["time_ms"]
        if now is None:
            continue
        step["gain"] = before / now if before is not None and now > 0 else None
        before = now
