"""GraphML, DOT, CSV and KernelBench folders, read again by what reads them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import networkx
import pytest
from fake_search import FakeEvaluator, FakeProposer, controller, spec
from typer.testing import CliRunner

from kernelgrove.cli import app, run
from kernelgrove.model import EvaluationRequest, EvaluationResult, Idea
from kernelgrove.storage import open_store
from kernelgrove.storage.exporters.flat import COLUMNS

TRICKY = 'say "x < y & z",\nback\\slash \x0b; 日本'


class _Measuring(FakeEvaluator):
    """Judges as the stand-in does, and says that it was timed on a GPU."""

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        from dataclasses import replace

        from kernelgrove.model import Basis

        stats = {"mean": 1.0, "std": 0.1, "n": 100.0}
        return replace(super().evaluate(request), basis=Basis.MEASURED, time_stats=stats)


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = str(tmp_path / "grove.db")
    with open_store(path, create=True) as store:
        controller(store, FakeProposer(), FakeEvaluator(), search=store.create_search(spec(), Idea(TRICKY))).run()
    return path


def _out(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def _tree(db: str) -> dict[str, Any]:
    return json.loads(_out("tree", "--json", "--db", db))  # type: ignore[no-any-return]


def test_graphml_holds_the_tree_and_its_figures(db: str) -> None:
    graph = networkx.parse_graphml(_out("export", "--format", "graphml", "--db", db))
    document = _tree(db)
    assert set(graph.nodes) == {node["id"] for node in document["nodes"]}
    assert set(graph.edges) == {(node["parent"], node["id"]) for node in document["nodes"] if node["parent"]}
    assert graph.nodes[document["root"]]["idea"] == TRICKY.replace("\x0b", "\ufffd")
    for node in document["nodes"]:
        passed = [i for i in node["implementations"] if i["outcome"] == "ok"]
        found = graph.nodes[node["id"]]
        if passed:
            best = min(passed, key=lambda i: float(i["time_ms"]))
            assert (found["best_ms"], found["basis"]) == (best["time_ms"], "projected")
            assert (found["speedup"], found["outcome"]) == (best["speedup"]["eager"], "ok")
        else:
            assert "best_ms" not in found and "basis" not in found


_STRING = r'"((?:[^"\\]|\\.)*)"'


def _parse_dot(text: str) -> tuple[dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Nodes and edges of the DOT that we write: each statement on its line."""
    nodes, edges = {}, []
    for line in text.rstrip("\n").split("\n"):  # an idea may hold what splitlines takes for a line end
        if edge := re.fullmatch(rf"  {_STRING} -> {_STRING};", line):
            edges.append((edge[1], edge[2]))
        elif node := re.fullmatch(rf"  {_STRING} \[((?:\w+={_STRING}(?:, )?)+)\];", line):
            nodes[node[1]] = dict(re.findall(rf"(\w+)={_STRING}", node[2]))
        else:
            assert line in ("digraph kernelgrove {", "}") or line.startswith("  node ["), line
    return nodes, edges


def test_dot_holds_the_tree_and_its_figures(db: str) -> None:
    nodes, edges = _parse_dot(_out("export", "--format", "dot", "--db", db))
    graph = networkx.parse_graphml(_out("export", "--format", "graphml", "--db", db))
    assert set(nodes) == set(graph.nodes) and set(edges) == set(graph.edges)
    for name, attributes in graph.nodes(data=True):
        for key in ("best_ms", "speedup", "basis", "outcome"):
            assert nodes[name].get(key) == (None if key not in attributes else str(attributes[key]))
        if "best_ms" in attributes:
            assert "(projected)" in nodes[name]["label"]
    assert nodes["n1"]["idea"] == TRICKY.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def test_csv_has_a_row_an_implementation_and_a_basis_for_each_figure(db: str) -> None:
    rows = list(csv.DictReader(io.StringIO(_out("export", "--format", "csv", "--db", db))))
    made = [i for node in _tree(db)["nodes"] for i in node["implementations"]]
    assert sorted(row["implementation"] for row in rows) == sorted(i["id"] for i in made)
    assert tuple(rows[0]) == COLUMNS
    times = {i["id"]: i["time_ms"] for i in made if i["time_ms"] is not None and not i["duplicate_of"]}
    assert {row["implementation"]: float(row["time_ms"]) for row in rows if row["time_ms"]} == times
    assert all(row["basis"] == "projected" for row in rows if row["time_ms"])
    assert rows[0]["idea"] == TRICKY


def test_a_kernelbench_folder_can_be_run_and_imported(db: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    document = json.loads(_out("export", "--format", "kernelbench", "--all", "-o", str(folder), "--db", db, "--json"))
    kernels = [name for name in document["files"] if name.endswith(".py")]
    assert kernels[0] == "level_0_problem_1_sample_0_kernel.py" and len(kernels) > 1
    entries = json.loads((folder / "eval_results.json").read_text())["1"]
    assert [entry["sample_id"] for entry in entries] == list(range(len(kernels)))
    with open_store(db) as store:
        codes = {i.id: store.code(i.program) for i in store.tree(1).implementations.values()}
    for entry in entries:
        made = int(entry["metadata"]["kernelgrove"]["implementation"][1:])
        assert (folder / f"level_0_problem_1_sample_{entry['sample_id']}_kernel.py").read_text() == codes[made]
    # What was projected must not read as a time on a GPU.
    assert {entry["runtime"] for entry in entries} == {-1.0}
    assert {entry["metadata"]["kernelgrove"]["basis"] for entry in entries} == {"projected"}
    assert run(["import", str(folder), "--db", str(tmp_path / "new.db")]) == 0


def test_a_measured_time_is_the_runtime(tmp_path: Path) -> None:
    db, folder = str(tmp_path / "grove.db"), tmp_path / "out"
    with open_store(db, create=True) as store:
        controller(store, FakeProposer(), _Measuring()).run()
        fastest = store.tree(1).best(1)[0]
    _out("export", "--format", "kernelbench", "-o", str(folder), "--db", db)
    (entry,) = json.loads((folder / "eval_results.json").read_text())["1"]
    assert (entry["runtime"], entry["runtime_stats"]["num_trials"]) == (fastest.time_ms, 100)
    assert entry["metadata"]["kernelgrove"]["basis"] == "measured"
    assert sorted(path.name for path in folder.iterdir()) == [
        "eval_results.json",
        "level_0_problem_1_sample_0_kernel.py",
    ]


def test_nothing_that_passed_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = str(tmp_path / "grove.db")
    with open_store(db, create=True) as store:
        store.create_search(spec(), Idea("root"))
    assert run(["export", "--format", "kernelbench", "-o", str(tmp_path / "out"), "--db", db]) == 1
    assert "Nothing has passed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--format", "kernelbench"], "Name one with -o"),
        (["--json"], "Name one with -o"),
        (["--all"], "--all belongs to --format kernelbench"),
        (["s1", "--grove"], "--grove exports every search"),
        (["s7"], "There is no search s7"),
        (["-o", "/nowhere/file.jsonl"], "/nowhere/file.jsonl cannot be written"),
    ],
)
def test_wrong_usage_is_one_sentence(db: str, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", *words, "--db", db]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run(["export", "--format", "kernelbench", "-o", str(tmp_path / "out"), "--db", db]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_jsonl_goes_through_files_and_comes_back(db: str, tmp_path: Path) -> None:
    file, new, again = (str(tmp_path / name) for name in ("a.jsonl", "new.db", "b.jsonl"))
    summary = json.loads(_out("export", "--grove", "-o", file, "--db", db, "--json"))
    assert summary["bytes"] == Path(file).stat().st_size
    document = json.loads(_out("import", file, "--db", new, "--json"))
    assert (document["format"], document["already"], document["searches"]) == ("jsonl", False, ["s1"])
    assert json.loads(_out("import", file, "--db", new, "--json"))["already"]
    _out("export", "s1", "-o", again, "--db", new)
    assert Path(file).read_bytes() == Path(again).read_bytes()
