"""``tree --depth --outcome --hide-pruned``: a smaller tree document from a whole one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def fold(
    document: Mapping[str, Any],
    *,
    depth: int | None = None,
    outcomes: Collection[str] = (),
    hide_pruned: bool = False,
) -> dict[str, Any]:
    """*document* down to *depth* ideas below the root, with only implementations of these *outcomes* (an idea
    without one, and without one below, goes too), and without pruned ideas and what hangs under them.

    A node from which something was left out gets ``folded``: how many ``nodes`` and ``implementations`` below it are
    not shown. Those that another outcome left out are not counted there: it is what was not asked for.
    """
    nodes: dict[str, dict[str, Any]] = {}
    below: dict[str, int] = {}
    for node in document["nodes"]:  # parents come first
        made = [i for i in node["implementations"] if not outcomes or i["outcome"] in outcomes]
        nodes[node["id"]] = {**node, "implementations": made}
        below[node["id"]] = 0 if node["parent"] is None else below[node["parent"]] + 1
    if outcomes:
        nodes = _with_something(nodes)
    shown: dict[str, dict[str, Any]] = {}
    under: dict[str, str] = {}  # a node that is not shown -> the shown one that it is folded into
    for name, node in nodes.items():
        parent = node["parent"]
        if parent in under:
            under[name] = under[parent]
        elif (depth is not None and below[name] > depth) or (hide_pruned and node["state"] == "pruned"):
            under[name] = parent
        else:
            shown[name] = node
            continue
        folded = shown[under[name]].setdefault("folded", {"nodes": 0, "implementations": 0})
        folded["nodes"] += 1
        folded["implementations"] += len(node["implementations"])
    return {**document, "nodes": list(shown.values())}


def _with_something(nodes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The nodes that have an implementation, or one below; the root always."""
    kept: set[str] = set()
    for name, node in reversed(list(nodes.items())):
        if node["implementations"] or name in kept or node["parent"] is None:
            kept.add(name)
            if node["parent"] is not None:
                kept.add(node["parent"])
    return {name: node for name, node in nodes.items() if name in kept}
