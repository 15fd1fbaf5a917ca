"""The Python API: ``kernelgrove.open("grove.db")`` for scripts and notebooks. It only reads.

::

    grove = kernelgrove.open("grove.db")
    for search in grove.searches():
        print(search.id, search.problem, search.best())
    s1 = grove.search("s1")
    s1.tree()             # TreeView: frozen nodes, implementations, evaluations
    s1.graph()            # networkx.DiGraph with attributes
    s1.frame("pandas")    # a row an implementation
    s1.code("i7")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .errors import EnvironmentLacks, NotFound, UsageError
from .model import ImplementationView, NodeView, TreeView
from .storage import SqliteStore, documents, open_store
from .storage.ids import show

if TYPE_CHECKING:
    import networkx as nx

#: What ``frame`` may return a DataFrame of.
FRAMES = ("pandas", "polars")


def open(path: str | os.PathLike[str]) -> Grove:
    """Open the grove at *path* (or ``sqlite:///path``) for reading; an older file is upgraded first.

    Raises NotFound where there is none, StoreError where it is not a grove or damaged.
    """
    return Grove(open_store(path))


class Grove:
    """A grove. Close it, or use it in a ``with`` block. Safe to use from several threads."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def searches(self) -> list[SearchHandle]:
        """Every search, oldest first."""
        return [SearchHandle(self._store, row) for row in documents.list_document(self._store)]

    def search(self, which: str | None = None) -> SearchHandle:
        """The search of this id (``s1``) or name, or the latest. Raises NotFound, UsageError."""
        number = documents.find_search(self._store, which)
        return SearchHandle(self._store, documents.search_document(self._store, number))

    def show(self, id: str) -> dict[str, Any]:
        """All that is kept of a thing, by its id, as ``kernelgrove show --json`` prints it. Raises NotFound,
        UsageError."""
        return documents.show_document(self._store, id)

    def code(self, id: str) -> str:
        """The program of an implementation (``i7``). Raises NotFound, UsageError."""
        return _code(self._store, id)[1]

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Grove:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Grove {self._store.location.shown}>"


class SearchHandle:
    """One search. Its methods read what is stored at the moment they are called."""

    def __init__(self, store: SqliteStore, document: dict[str, Any]) -> None:
        self._store = store
        self.id: str = document["search"]
        self.name: str | None = document["name"]
        self.problem: str = document["problem"]
        self.target: str = document["target"]
        self._number = int(self.id[1:])

    def document(self) -> dict[str, Any]:
        """What ``kernelgrove resume --json`` prints: status, counts, best, cost."""
        return documents.search_document(self._store, self._number)

    def tree(self) -> TreeView:
        """An immutable snapshot of the whole tree, jobs included."""
        return self._store.tree(self._number)

    def best(self) -> dict[str, Any] | None:
        """The fastest implementation that passed, in the search's basis, with ``code``; None when none has."""
        return documents.best(self._store, self._number)

    def code(self, id: str) -> str:
        """The program of an implementation of this search (``i7``). Raises NotFound, UsageError."""
        search, code = _code(self._store, id)
        if search != self.id:
            raise NotFound(f"{id} is not in {self.id} but in {search}.", f"Use grove.search({search!r}).")
        return code

    def graph(self) -> nx.DiGraph[str]:
        """The tree as a networkx.DiGraph: nodes ``n2`` (``kind="node"``) and ``i3`` (``kind="implementation"``).

        The attribute ``kind`` of an edge is ``idea`` (parent to child), ``implementation`` (node to its
        implementation), ``base`` (implementation to the idea that builds on it), ``repair`` or ``duplicate`` (earlier
        to later implementation). Attributes that have no value are left out.
        """
        import networkx as nx

        view = self.tree()
        graph: nx.DiGraph[str] = nx.DiGraph(search=self.id, problem=self.problem, target=self.target)
        for node in view.nodes.values():
            graph.add_node(show("n", node.id), **_some(_node(node)))
        for made in view.implementations.values():
            graph.add_node(show("i", made.id), **_some(_implementation(made)))
        for node in view.nodes.values():
            if node.parent is not None:
                graph.add_edge(show("n", node.parent), show("n", node.id), kind="idea")
            if node.base is not None:
                graph.add_edge(show("i", node.base), show("n", node.id), kind="base")
        for made in view.implementations.values():
            graph.add_edge(show("n", made.node), show("i", made.id), kind="implementation")
            for earlier, kind in ((made.repair_of, "repair"), (made.duplicate_of, "duplicate")):
                if earlier is not None:
                    graph.add_edge(show("i", earlier), show("i", made.id), kind=kind)
        return graph

    def frame(self, library: Literal["pandas", "polars"] | None = None) -> Any:
        """A row an implementation, with its idea and its figures: a list of dicts, or a DataFrame of *library*.

        Times are milliseconds; ``speedup_eager`` is the reference's time ÷ this one's. Every row has its ``basis``:
        group by it before comparing figures. Raises EnvironmentLacks where *library* is not installed.
        """
        if library is not None and library not in FRAMES:
            raise UsageError(f"There are no frames of {library!r}.", f"Say {' or '.join(map(repr, FRAMES))}.")
        frames = None if library is None else _library(library)  # before the work
        view = self.tree()
        rows = [
            {
                "search": self.id,
                "problem": self.problem,
                "target": self.target,
                "implementation": show("i", made.id),
                **_implementation(made),
                "node": show("n", made.node),
                **{name: value for name, value in _node(view.nodes[made.node]).items() if name in _OF_IDEA},
            }
            for made in view.implementations.values()
        ]
        for row in rows:
            del row["kind"]
        return rows if frames is None else _frame(frames, rows)

    def __repr__(self) -> str:
        return f"<Search {self.id} {self.problem} for {self.target}>"


_OF_IDEA = ("idea", "category", "round", "state", "pruned_because")


def _node(node: NodeView) -> dict[str, Any]:
    return {
        "kind": "node",
        "address": node.address,
        "round": node.round,
        "idea": node.idea.text,
        "rationale": node.idea.rationale,
        "category": node.idea.category,
        "state": str(node.state),
        "pruned_because": node.pruned_because,
        "model": node.model,
        "rating": node.rating,
    }


def _implementation(made: ImplementationView) -> dict[str, Any]:
    found = made.evaluation
    return {
        "kind": "implementation",
        "address": made.address,
        "program": made.program,
        "model": made.model,
        "repair_of": None if made.repair_of is None else show("i", made.repair_of),
        "duplicate_of": None if made.duplicate_of is None else show("i", made.duplicate_of),
        "evaluation": None if found is None else show("e", found.id),
        "outcome": None if found is None else str(found.outcome),
        "stage": None if found is None else str(found.stage),
        "message": None if found is None else found.message,
        "basis": None if found is None else str(found.basis),
        "time_ms": None if found is None else found.time_ms,
        "time_low_ms": None if found is None or found.time_interval is None else found.time_interval[0],
        "time_high_ms": None if found is None or found.time_interval is None else found.time_interval[1],
        "timing": None if found is None else found.timing,
        "eager_ms": None if found is None else found.baselines.get("eager"),
        "compile_ms": None if found is None else found.baselines.get("compile"),
        "speedup_eager": None if found is None else found.speedup.get("eager"),
        "speedup_compile": None if found is None else found.speedup.get("compile"),
    }


def _some(values: dict[str, Any]) -> dict[str, Any]:
    """GraphML and most layouts have no word for None."""
    return {name: value for name, value in values.items() if value is not None}


def _code(store: SqliteStore, id: str) -> tuple[str, str]:
    """(search, code)"""
    document = documents.show_document(store, id)
    if "code" not in document:
        raise UsageError(f"{id} is not an implementation.", "Give an id like i3.")
    return document["search"], document["code"]


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise EnvironmentLacks(
            f"{name} is not installed here.", f"Install it with `pip install {name}`, or call frame() for dicts."
        ) from error


def _frame(frames: Any, rows: list[dict[str, Any]]) -> Any:
    if frames.__name__ == "polars":
        return frames.DataFrame(rows, infer_schema_length=None)  # a column may begin with many None
    return frames.DataFrame(rows)
