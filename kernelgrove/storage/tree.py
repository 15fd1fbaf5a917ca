"""The document of ``tree``: a search's ideas and what came of them, whole or folded.

What is shown is decided on ids and outcomes alone; only of that are rows read in full, so that the top of a very large
tree is as quick as a small one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from ..model import ImplementationView, NodeState, NodeView
from . import snapshot, views
from .ids import show, show_or_none
from .overview import search_row
from .statements import Statement
from .store import SqliteStore

#: Up to so many nodes are read one by one; of more, all of the search's are.
_FEW = 2000

_SKELETON = Statement(text("SELECT id, parent_id, state FROM node WHERE search_id = :search ORDER BY id"))
_MADE = Statement(text("SELECT node_id, outcome FROM implementation WHERE search_id = :search"))


@dataclass
class Folded:
    """What is not shown below a node."""

    nodes: int = 0
    implementations: int = 0


@dataclass
class Shown:
    """Ids of the nodes to show, in order, and what was folded into some of them."""

    nodes: list[int] = field(default_factory=list)
    folded: dict[int, Folded] = field(default_factory=dict)


def fold(
    skeleton: Iterable[Sequence[Any]],
    made: Mapping[int, int],
    *,
    depth: int | None = None,
    hide_pruned: bool = False,
    only_with: bool = False,
) -> Shown:
    """What to show of *skeleton* (id, parent, state; parents first): down to *depth* ideas below the root, without
    pruned ideas and what hangs under them, and *only_with* the nodes that have an implementation of *made*, or one
    below.

    *made* counts implementations by node; those that are not in it were not asked for and are not counted as folded.
    """
    skeleton = list(skeleton)
    if only_with:
        skeleton = _with_something(skeleton, made)
    found = Shown()
    below: dict[int | None, int] = {None: -1}
    under: dict[int, int] = {}  # a node that is not shown -> the shown one that it is folded into
    for id_, parent, state in skeleton:
        below[id_] = below[parent] + 1
        into = under.get(parent)
        if into is None and ((depth is not None and below[id_] > depth) or (hide_pruned and state == NodeState.PRUNED)):
            into = parent
        if into is None:
            found.nodes.append(id_)
            continue
        under[id_] = into
        folded = found.folded.setdefault(into, Folded())
        folded.nodes += 1
        folded.implementations += made.get(id_, 0)
    return found


def _with_something(skeleton: list[Sequence[Any]], made: Mapping[int, int]) -> list[Sequence[Any]]:
    kept: set[int] = set()
    for id_, parent, _ in reversed(skeleton):
        if parent is None or made.get(id_) or id_ in kept:
            kept.add(id_)
            kept.add(parent)
    return [row for row in skeleton if row[0] in kept]


def tree_document(
    store: SqliteStore,
    search: int,
    *,
    depth: int | None = None,
    outcomes: Collection[str] = (),
    hide_pruned: bool = False,
) -> dict[str, Any]:
    """What ``tree`` prints: nodes and implementations by id, so parents come first. Folded by ``fold``, with only
    implementations of these *outcomes*; a node from which something was left out has ``folded``: how many ``nodes`` and
    ``implementations`` below it are not shown. Raises NotFound."""
    with store.read() as connection:
        row = search_row(connection, search)
        counts: dict[int, int] = {}
        for node, outcome in _MADE.rows(connection, search=search):
            if not outcomes or outcome in outcomes:
                counts[node] = counts.get(node, 0) + 1
        skeleton = _SKELETON.rows(connection, search=search)
        shown = fold(skeleton, counts, depth=depth, hide_pruned=hide_pruned, only_with=bool(outcomes))
        if len(shown.nodes) <= _FEW:
            nodes, implementations = views.part(connection, search, shown.nodes)
        else:
            view = snapshot.take(connection, search).view
            nodes, implementations = view.nodes, view.implementations
    made: dict[int, list[dict[str, Any]]] = {}
    for i in implementations.values():
        document = _implementation(i)
        if not outcomes or document["outcome"] in outcomes:
            made.setdefault(i.node, []).append(document)
    return {
        "search": show("s", search),
        "problem": row["problem"],
        "status": row["status"],
        "target": row["target"],
        "basis": row["basis"],
        "root": show("n", skeleton[0][0]),
        "nodes": [_node(nodes[id_], made.get(id_, []), shown.folded.get(id_)) for id_ in shown.nodes],
    }


def _node(node: NodeView, made: list[dict[str, Any]], folded: Folded | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": show("n", node.id),
        "parent": show_or_none("n", node.parent),
        "base": show_or_none("i", node.base),
        "address": node.address,
        "round": node.round,
        "idea": node.idea.text,
        "rationale": node.idea.rationale,
        "category": node.idea.category,
        "model": node.model,
        "rating": node.rating,
        "state": str(node.state),
        "pruned_because": node.pruned_because,
        "implementations": made,
    }
    if folded is not None:
        document["folded"] = {"nodes": folded.nodes, "implementations": folded.implementations}
    return document


def _implementation(i: ImplementationView) -> dict[str, Any]:
    e = i.evaluation
    return {
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
        "timing": e.timing if e is not None else None,
        "speedup": None if e is None or not e.speedup else dict(e.speedup),
    }
