"""``kernelgrove.open``: the Python API, light until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from groves import finished

import kernelgrove
from kernelgrove.errors import EnvironmentLacks, NotFound, UsageError
from kernelgrove.model import TreeView
from kernelgrove.storage import documents, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


def test_importing_the_package_is_light_and_open_is_there() -> None:
    code = (
        "import sys, kernelgrove\n"
        "new = [name for name in sys.modules if name.split('.')[0] in ('sqlalchemy', 'networkx', 'torch', 'rich')]\n"
        "print(new, [name for name in sys.modules if name.startswith('kernelgrove.')])\n"
        "print(kernelgrove.open.__name__, 'torch' in sys.modules, 'networkx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\nopen False False\n"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = kernelgrove.opne


def test_searches_and_what_they_hold(path: Path) -> None:
    with kernelgrove.open(path) as grove:
        (search,) = grove.searches()
        assert (search.id, search.problem, search.target) == ("s1", "toy", "H100")
        assert grove.search("s1").id == grove.search().id == "s1"
        assert isinstance(search.tree(), TreeView)
        assert search.document()["status"] == "finished"
        best = search.best()
        assert best is not None
        made = best["implementation"]
        assert search.code(made) == grove.code(made) == best["code"]
        assert grove.show("n1")["node"] == "n1"
    with open_store(path) as store:
        assert best == documents.best(store, 1)


def test_what_is_not_there(path: Path) -> None:
    with kernelgrove.open(path) as grove:
        with pytest.raises(NotFound, match="no search s9"):
            grove.search("s9")
        with pytest.raises(UsageError, match="n1 is not an implementation"):
            grove.code("n1")
    with pytest.raises(NotFound, match="is not there"):
        kernelgrove.open(path.with_name("none.db"))


def test_code_of_another_search_is_not_given_for_this_one(path: Path) -> None:
    from fake_search import controller

    with open_store(path) as store:
        controller(store).run()
    with kernelgrove.open(path) as grove, pytest.raises(NotFound, match="i1 is not in s2 but in s1"):
        grove.search("s2").code("i1")


def test_the_graph_is_the_tree(path: Path) -> None:
    with kernelgrove.open(path) as grove:
        search = grove.search()
        graph, view = search.graph(), search.tree()
    assert isinstance(graph, nx.DiGraph) and nx.is_directed_acyclic_graph(graph)
    assert set(graph) == {f"n{n}" for n in view.nodes} | {f"i{i}" for i in view.implementations}
    ideas = nx.DiGraph((a, b) for a, b, kind in graph.edges(data="kind") if kind == "idea")
    assert nx.is_arborescence(ideas) and set(ideas) == {f"n{n}" for n in view.nodes}
    for made in view.implementations.values():
        assert graph.edges[f"n{made.node}", f"i{made.id}"]["kind"] == "implementation"
        assert graph.nodes[f"i{made.id}"].get("time_ms") == made.time_ms
    built = {(f"i{n.base}", f"n{n.id}") for n in view.nodes.values() if n.base}
    assert built and built == {(a, b) for a, b, kind in graph.edges(data="kind") if kind == "base"}
    assert not [v for _, data in graph.nodes(data=True) for v in data.values() if v is None]


def test_rows_have_every_figure_with_its_basis(path: Path) -> None:
    with kernelgrove.open(path) as grove:
        search = grove.search()
        rows, view = search.frame(), search.tree()
    assert [row["implementation"] for row in rows] == [f"i{i}" for i in view.implementations]
    for row, made in zip(rows, view.implementations.values(), strict=True):
        assert row["time_ms"] == made.time_ms and row["idea"] == view.nodes[made.node].idea.text
        assert row["basis"] == "projected" and row["search"] == "s1"
    assert len({tuple(row) for row in rows}) == 1, "every row has the same columns"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_of_what_is_not_installed_says_so(library: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with kernelgrove.open(path) as grove:
        with pytest.raises(EnvironmentLacks, match=f"{library} is not installed here. Install it with `pip install"):
            grove.search().frame(library)
        with pytest.raises(UsageError, match="no frames of 'excel'"):
            grove.search().frame("excel")  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_of_what_is_installed(library: Any, path: Path) -> None:
    frames = pytest.importorskip(library)
    with kernelgrove.open(path) as grove:
        search = grove.search()
        frame, rows = search.frame(library), search.frame()
    assert isinstance(frame, frames.DataFrame) and frame.shape == (len(rows), len(rows[0]))
    passed = frame[frame["outcome"] == "ok"] if library == "pandas" else frame.filter(frames.col("outcome") == "ok")
    best = min(row["time_ms"] for row in rows if row["time_ms"])
    assert passed["time_ms"].min() == best
