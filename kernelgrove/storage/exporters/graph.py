"""Trees of ideas as networkx graphs, GraphML and DOT.

A graph node is a node of the tree (``n12``), an edge goes from parent to child. The figures of a node are those of its
fastest implementation in the one basis in which its search is ranked, which stands beside them as ``basis``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..overview import leaders
from ..store import SqliteStore
from ..tree import tree_document

if TYPE_CHECKING:
    import networkx

    Graph: TypeAlias = networkx.DiGraph[str]

# What XML 1.0 cannot hold, even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def tree_graph(store: SqliteStore, searches: Sequence[int]) -> Graph:
    """One directed graph with the trees of *searches* side by side. Attributes that have no value are left out.

    Of a node: ``search problem idea rationale category round state pruned_because base model rating implementations
    outcome best best_ms speedup basis target``; ``outcome`` is ``ok`` where one passed, else how the last one ended.
    Raises NotFound.
    """
    import networkx

    graph: Graph = networkx.DiGraph()
    for search in searches:
        document = tree_document(store, search)
        first = next(iter(leaders(store, search, 1)), None)
        basis = document["basis"] if first is None else first["basis"]
        for node in document["nodes"]:
            graph.add_node(node["id"], **_attributes(document, node, basis))
            if node["parent"] is not None:
                graph.add_edge(node["parent"], node["id"])
    return graph


def _attributes(document: Mapping[str, Any], node: Mapping[str, Any], basis: str) -> dict[str, Any]:
    made = node["implementations"]
    judged = [i for i in made if i["outcome"] is not None]
    timed = [i for i in made if i["outcome"] == "ok" and i["basis"] == basis and i["time_ms"] is not None]
    best = min(timed, key=lambda i: (i["time_ms"], i["address"]), default=None)
    outcomes = [i["outcome"] for i in judged]
    found = {
        "search": document["search"],
        "problem": document["problem"],
        **{key: node[key] for key in ("idea", "rationale", "category", "round", "state", "pruned_because", "base")},
        **{key: node[key] for key in ("model", "rating")},
        "implementations": len(made),
        "outcome": "ok" if "ok" in outcomes else next(reversed(outcomes), None),
    }
    if best is not None:
        found |= {"best": best["id"], "best_ms": best["time_ms"], "basis": basis, "target": document["target"]}
        found["speedup"] = (best["speedup"] or {}).get("eager")
    return {key: value for key, value in found.items() if value is not None and value != ""}


def graphml(graph: Graph) -> str:
    """*graph* as GraphML. Characters that XML cannot hold become U+FFFD."""
    import networkx

    clean = networkx.DiGraph()
    for node, attributes in graph.nodes(data=True):
        clean.add_node(node, **{key: _xml(value) for key, value in attributes.items()})
    clean.add_edges_from(graph.edges)
    return "\n".join(networkx.generate_graphml(clean, named_key_ids=True)) + "\n"


def _xml(value: Any) -> Any:
    return _NOT_XML.sub("\ufffd", value) if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------------- DOT

#: Fill colour of an outcome.
_COLOURS = {"ok": "palegreen", "wrong_result": "lightpink", "rejected": "lightpink"}


def dot(graph: Graph) -> str:
    """*graph* for Graphviz: every attribute, and a label with the idea, the best time and its basis.

    networkx writes DOT only with pydot or pygraphviz installed; the language is small enough to do without.
    """
    lines = ["digraph kernelgrove {", "  node [shape=box, style=filled, fillcolor=white, fontname=Helvetica];"]
    for node, attributes in graph.nodes(data=True):
        colour = _COLOURS.get(attributes.get("outcome", "ok" if attributes.get("best") else ""))
        shown = {**attributes, "label": _label(node, attributes)}
        if "outcome" in attributes:
            shown["fillcolor"] = colour or "khaki"
        written = ", ".join(f"{key}={_quoted(value)}" for key, value in shown.items())
        lines.append(f"  {_quoted(node)} [{written}];")
    lines += [f"  {_quoted(parent)} -> {_quoted(child)};" for parent, child in graph.edges]
    return "\n".join([*lines, "}", ""])


def _label(node: str, attributes: Mapping[str, Any]) -> str:
    words = str(attributes.get("idea", "")).split()
    text, lines = "", []
    for word in words[:24]:
        if len(text) + len(word) > 40 and text:
            lines.append(text)
            text = ""
        text = f"{text} {word}".strip()
    lines.append(text + (" …" if len(words) > 24 else ""))
    figures = ""
    if "best_ms" in attributes:
        over = f", {attributes['speedup']:.2f}x" if "speedup" in attributes else ""
        figures = f"{attributes['best_ms']:.4g} ms{over} ({attributes['basis']})"
    return "\n".join([node, *lines, *([figures] if figures else [])])


def _quoted(value: Any) -> str:
    r"""A DOT string: only the quote and the backslash mean anything in one, and a line end is written ``\n``."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\n").replace("\r", "\n")
    return '"' + text.replace("\n", "\\n") + '"'
