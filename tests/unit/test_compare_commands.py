"""``lineage``, ``diff``, ``stats`` and the folding of ``tree``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from groves import ask, change, finished

from kernelgrove import cli
from kernelgrove.commands.compare import columns
from kernelgrove.storage import documents, open_store


@pytest.fixture
def grove(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert cli.run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def deepest(grove: Path) -> str:
    """An implementation that passed, three ideas below the root; what the first of them builds on is a repair."""
    return str(ask(grove, "SELECT 'i' || id FROM implementation WHERE address = 'r.0-0.0-0.0-0/0'")[0][0])


# -------------------------------------------------------------------------------------------------- lineage


def test_a_lineage_goes_from_the_root_to_the_one_asked_for(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = deepest(grove)
    steps = told(capsys, "lineage", asked, "--db", grove)["steps"]
    with open_store(grove) as store:
        view = store.tree(1)
    path = view.lineage(view.implementations[int(asked[1:])].node)
    assert [step["node"] for step in steps] == ["n1", *(f"n{node.id}" for node in path)] and len(path) == 4
    assert steps[0]["builds_on"] is None, "it was written from the reference"
    assert steps[1]["repair_of"] == steps[0]["implementation"] is not None
    assert steps[-1]["implementation"] == asked
    for before, after in itertools.pairwise(steps[1:]):
        assert after["builds_on"] == before["implementation"]


def test_what_was_taken_from_another_branch_is_a_step(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = deepest(grove)
    before = told(capsys, "lineage", asked, "--db", grove)["steps"]
    other, home = ask(grove, "SELECT id, node_id FROM implementation WHERE address = 'r.0-1/0'")[0]
    change(grove, f"UPDATE node SET base_id = {other} WHERE id = {before[3]['node'][1:]}")
    steps = told(capsys, "lineage", asked, "--db", grove)["steps"]
    nodes = [step["node"] for step in before]
    assert [step["node"] for step in steps] == [*nodes[:3], f"n{home}", *nodes[3:]]
    assert steps[2]["implementation"] is None and steps[3]["implementation"] == f"i{other}"
    assert steps[4]["gain"] == pytest.approx(steps[3]["time_ms"] / steps[4]["time_ms"])


def test_gains_multiply_to_the_speedup_of_the_last(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "lineage", deepest(grove), "--db", grove)
    product = 1.0
    for step in document["steps"]:
        product *= step["gain"] or 1.0
    assert product == pytest.approx(document["steps"][-1]["speedup"]["eager"]) == document["total_gain"]
    assert document["basis"] == "projected"


def test_figures_of_another_basis_are_left_out(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = deepest(grove)
    before = told(capsys, "lineage", asked, "--db", grove)["steps"]
    middle = before[2]["evaluation"]
    change(
        grove,
        "DROP TRIGGER evaluation_never_changes",
        f"UPDATE evaluation SET basis = 'measured', time_ms = 1e-6 WHERE id = {middle[1:]}",
    )
    after = told(capsys, "lineage", asked, "--db", grove)["steps"]
    assert after[2]["time_ms"] is None and after[2]["gain"] is None and after[2]["basis"] == "measured"
    assert after[3]["gain"] == pytest.approx(before[1]["time_ms"] / before[3]["time_ms"])
    assert cli.run(["lineage", asked, "--db", str(grove)]) == 0
    assert "ok, measured" in capsys.readouterr().out


def test_of_an_idea_it_ends_with_its_best(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(grove) as store:
        for node in documents.tree_document(store, 1)["nodes"]:
            last = told(capsys, "lineage", node["id"], "--db", grove)["steps"][-1]
            passed = [i["time_ms"] for i in node["implementations"] if i["outcome"] == "ok"]
            assert last["node"] == node["id"]
            assert last["time_ms"] == (min(passed) if passed else None)


def test_a_repair_comes_after_what_it_repairs(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (failed, node), *_ = ask(
        grove,
        """SELECT i.id, i.node_id FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id
           WHERE e.outcome = 'wrong_result'""",
    )
    (other,) = ask(grove, "SELECT id FROM implementation WHERE node_id = ? AND id <> ?", node, failed)[0]
    change(grove, f"UPDATE implementation SET repair_of = {failed} WHERE id = {other}")
    steps = told(capsys, "lineage", f"i{other}", "--db", grove)["steps"]
    assert [s["implementation"] for s in steps[-2:]] == [f"i{failed}", f"i{other}"]
    assert steps[-2]["time_ms"] is None and steps[-1]["repair_of"] == f"i{failed}"


@pytest.mark.parametrize(("id", "says"), [("s1", "s1 is a search: a lineage"), ("i999", "no implementation i999")])
def test_a_lineage_of_something_else(id: str, says: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["lineage", id, "--db", str(grove)]) == 2
    assert says in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- diff


def test_a_diff_is_unified_and_counted(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(grove) as store:
        view = store.tree(1)
        old, new = (store.code(view.implementations[i].program) for i in (1, 2))
    assert cli.run(["diff", "i1", "i2", "--db", str(grove)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["--- i1", "+++ i2"]
    assert f"-{old.splitlines()[1]}" in lines and f"+{new.splitlines()[1]}" in lines
    document = told(capsys, "diff", "i1", "i2", "--db", grove)
    assert (document["added"], document["removed"], document["same"]) == (1, 1, False)
    assert document["unified"] == lines


def test_the_same_program_is_said_to_be(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hash_,) = ask(grove, "SELECT program FROM implementation WHERE id = 1")[0]
    assert cli.run(["diff", "i1", hash_[:10], "--db", str(grove)]) == 0
    assert f"i1 and {hash_[:10]} are the same program" in capsys.readouterr().out


def test_one_id_is_compared_with_what_it_builds_on(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = deepest(grove)
    base = told(capsys, "lineage", asked, "--db", grove)["steps"][-1]["builds_on"]
    document = told(capsys, "diff", asked, "--db", grove)
    assert (document["from"]["id"], document["to"]["id"]) == (base, asked)
    assert cli.run(["diff", "i1", "--db", str(grove)]) == 2
    assert "i1 was written from the reference alone" in capsys.readouterr().err


def test_evaluations_and_searches_stand_for_programs(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = told(capsys, "best", "--db", grove)
    document = told(capsys, "diff", "s1", best["evaluation"], "--db", grove)
    assert document["from"]["id"] == best["implementation"] and document["same"]


@pytest.mark.parametrize(
    ("id", "says"),
    [("n1", "n1 is a node, which has no one program"), ("ffffffff", "no program ffffffff"), ("what", "is not an id")],
)
def test_what_is_no_program(id: str, says: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["diff", "i1", id, "--db", str(grove)]) == 2
    assert says in capsys.readouterr().err


def test_side_by_side(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["diff", "i1", "i2", "--side-by-side", "--db", str(grove)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 160 for line in lines)
    assert any(" | " in line for line in lines) and lines[-1].split() == ["(i1)", "(i2)"]


def test_columns_mark_what_is_on_one_side() -> None:
    rows = list(columns(["a", "b", "c", "d", "e"], ["a", "B", "c", "e", "f", "g"], 1))
    assert rows == [
        ("a", " ", "a"),
        ("b", "|", "B"),
        ("c", " ", "c"),
        ("d", "<", ""),
        ("e", " ", "e"),
        ("", ">", "f"),
        ("", ">", "g"),
    ]
    far = list(columns([*"abcdefgh", "x"], [*"abcdefgh", "y"], 1))
    assert far == [("… line 8", " ", "… line 8"), ("h", " ", "h"), ("x", "|", "y")]


# ---------------------------------------------------------------------------------------------------- stats


def test_stats_add_up(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "stats", "--db", grove)
    with open_store(grove) as store:
        view = store.tree(1)
        best = documents.best(store, 1)
    assert document["nodes"] == len(view.nodes) and document["implementations"] == len(view.implementations)
    judged = [i for i in view.judged() if i.duplicate_of is None]
    assert document["judged"] == len(judged) == sum(row["count"] for row in document["outcomes"])
    for of in ("models", "categories"):
        assert sum(group["made"] for group in document[of]) == len(view.implementations)
        assert sum(group["judged"] for group in document[of]) == len(judged)
        assert sum(group["ok"] for group in document[of]) == sum(i.ok for i in judged)
        assert min(g["best_ms"] for g in document[of] if g["best_ms"]) == best["time_ms"]
    assert sum(row["jobs"] for row in document["work"]) == ask(grove, "SELECT count(*) FROM job")[0][0]


def test_improvements_get_faster_until_the_best(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "stats", "--db", grove)
    times = [row["time_ms"] for row in document["improvements"]]
    assert times == sorted(times, reverse=True) and len(times) >= 2
    assert document["improvements"][-1]["implementation"] == told(capsys, "best", "--db", grove)["implementation"]
    assert document["improvements"][-1]["evaluations"] + document["since_best"] == document["judged"]


def test_stats_for_people(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["stats", "s1", "--db", str(grove)]) == 0
    out = capsys.readouterr().out
    for title in ("outcomes:", "models (times projected for H100):", "categories", "work:", "improvements:"):
        assert f"\n{title}" in out
    assert "wrong_result" in out and "evaluations since the last" in out


# ----------------------------------------------------------------------------------------------------- tree


@pytest.fixture(params=[0, 2000], ids=["whole", "part"])
def drawn(
    request: pytest.FixtureRequest, grove: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Draws the tree, once from all of its rows and once from those that are shown."""
    monkeypatch.setattr("kernelgrove.storage.tree._FEW", request.param)

    def draw(**options: Any) -> dict[str, Any]:
        with open_store(grove) as store:
            return documents.tree_document(store, 1, **options)

    return draw


@pytest.fixture
def tree(drawn: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return drawn()


def total(document: dict[str, Any]) -> tuple[int, int]:
    nodes = document["nodes"]
    folded = [node.get("folded", {"nodes": 0, "implementations": 0}) for node in nodes]
    made = sum(len(node["implementations"]) for node in nodes) + sum(f["implementations"] for f in folded)
    return len(nodes) + sum(f["nodes"] for f in folded), made


@pytest.mark.parametrize("depth", [0, 1, 2, 9])
def test_folding_to_a_depth_counts_what_is_below(
    drawn: Callable[..., dict[str, Any]], tree: dict[str, Any], depth: int
) -> None:
    small = drawn(depth=depth)
    assert total(small) == total(tree)
    assert max(node["address"].count(".") for node in small["nodes"]) == min(depth, 3)
    if depth == 9:
        assert small == tree


def test_pruned_ideas_go_with_what_is_under_them(drawn: Callable[..., dict[str, Any]], tree: dict[str, Any]) -> None:
    pruned = {node["id"] for node in tree["nodes"] if node["state"] == "pruned"}
    assert pruned
    small = drawn(hide_pruned=True)
    names = {node["id"] for node in small["nodes"]}
    assert not names & pruned and total(small) == total(tree)
    assert all(node["parent"] in names for node in small["nodes"] if node["parent"])


def test_an_outcome_keeps_the_way_to_it(drawn: Callable[..., dict[str, Any]], tree: dict[str, Any]) -> None:
    small = drawn(outcomes=["wrong_result"])
    names = {node["id"] for node in small["nodes"]}
    kept = [i for node in small["nodes"] for i in node["implementations"]]
    every = [i for node in tree["nodes"] for i in node["implementations"] if i["outcome"] == "wrong_result"]
    assert kept == every and every
    assert all(node["parent"] in names for node in small["nodes"] if node["parent"])
    assert not [n for n in small["nodes"] if not n["implementations"] and not _children(small, n["id"]) and n["parent"]]


def _children(document: dict[str, Any], parent: str) -> list[Any]:
    return [node for node in document["nodes"] if node["parent"] == parent]


def test_tree_options_on_the_command_line(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tree", "--depth", "1", "--db", str(grove)]) == 0
    out = capsys.readouterr().out
    assert "(+" in out and "implementation" in out
    assert len(told(capsys, "tree", "--depth", "0", "--db", grove)["nodes"]) == 1
    assert cli.run(["tree", "--outcome", "nonsense", "--db", str(grove)]) == 2
    assert "--outcome" in capsys.readouterr().err
