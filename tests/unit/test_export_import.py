"""JSON lines: what is exported, imported and exported again is the same file, and a broken file changes nothing."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fake_search import DEVICE, FakeEvaluator, FakeProposer, controller, spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelgrove.errors import StoreError
from kernelgrove.model import Basis, EvaluationResult, Idea, Ideate, Implement, JobKind, Outcome, Prune, Stage
from kernelgrove.ports import CodeResult, EvaluatedResult, IdeasResult, PlannedJob
from kernelgrove.storage.documents import list_document, tree_document
from kernelgrove.storage.exporters.lines import TABLES, export
from kernelgrove.storage.importers.entries import BrokenFile
from kernelgrove.storage.importers.jsonl import load
from kernelgrove.storage.store import SqliteStore, open_store
from kernelgrove.storage.tables import metadata


def exported(store: SqliteStore, *searches: int) -> str:
    with store.read() as connection:
        return "".join(export(connection, searches))


def import_text(store: SqliteStore, text: str) -> Any:
    return load(store, text.encode().splitlines(keepends=True), "file.jsonl")


@pytest.fixture
def grove(tmp_path: Path) -> Any:
    """A store after a real run of the controller over stand-ins: jobs, decisions, calls, evaluations, prunes."""
    with open_store(tmp_path / "grove.db", create=True) as store:
        controller(store, FakeProposer(), FakeEvaluator()).run()
        yield store


def test_every_table_is_exported() -> None:
    assert set(TABLES) == set(metadata.tables)


def test_a_real_grove_survives_the_round_trip_into_a_new_one(grove: SqliteStore, tmp_path: Path) -> None:
    text = exported(grove, 1)
    with open_store(tmp_path / "new.db", create=True) as new:
        assert import_text(new, text).searches == (1,)
        assert exported(new, 1) == text
        assert tree_document(new, 1) == tree_document(grove, 1)


def test_ids_are_moved_where_the_grove_has_rows_and_the_file_stays_the_same(grove: SqliteStore, tmp_path: Path) -> None:
    text = exported(grove, 1)
    with open_store(tmp_path / "other.db", create=True) as other:
        controller(
            other, FakeProposer(failing=0.9), FakeEvaluator(), search=other.create_search(spec(seed=3), Idea("x"))
        )
        controller(other, FakeProposer("second", failing=0.0), FakeEvaluator()).run()
        made = import_text(other, text).searches
        assert made == (3,)
        assert exported(other, 3) == text
        payloads = [job.payload for job in other.tree(3).jobs if job.kind is JobKind.IDEATE]
        assert payloads and all(p["parent"] in other.tree(3).nodes for p in payloads)


def test_an_imported_search_can_go_on(grove: SqliteStore, tmp_path: Path) -> None:
    from kernelgrove import strategies

    with open_store(tmp_path / "new.db", create=True) as new:
        import_text(new, exported(grove, 1))
        before = len(new.tree(1).nodes)
        more = strategies.make("branch", {"rounds": 3, "widths": 2, "depths": 2})
        controller(new, FakeProposer(), FakeEvaluator(), search=1, strategy=more).run()
        assert len(new.tree(1).nodes) > before


def test_full_text_and_foreign_keys_hold_after_an_import(grove: SqliteStore, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with open_store(path, create=True) as new:
        import_text(new, exported(grove, 1))
        count = len(new.tree(1).nodes)
    plain = sqlite3.connect(path)
    assert plain.execute("SELECT count(*) FROM idea_fts WHERE idea_fts MATCH 'idea OR reference'").fetchone() == (
        count,
    )
    assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
    plain.close()


def test_the_same_file_twice_is_recognised(grove: SqliteStore, tmp_path: Path) -> None:
    text = exported(grove, 1)
    assert import_text(grove, text).already
    with open_store(tmp_path / "new.db", create=True) as new:
        import_text(new, text)
        again = import_text(new, text)
        assert (again.already, again.searches) == (True, (1,))
        assert len(list_document(new)) == 1


def test_a_file_of_which_a_part_is_here_is_refused(grove: SqliteStore, tmp_path: Path) -> None:
    controller(grove, FakeProposer("other"), FakeEvaluator(), search=grove.create_search(spec(seed=9), Idea("x"))).run()
    with open_store(tmp_path / "new.db", create=True) as new:
        import_text(new, exported(grove, 1))
        with pytest.raises(StoreError, match="Search 1 of the file is here already, as s1"):
            import_text(new, exported(grove, 1, 2))
        assert len(list_document(new)) == 1


def test_a_search_that_reused_an_evaluation_takes_it_along(tmp_path: Path) -> None:
    with open_store(tmp_path / "grove.db", create=True) as store, open_store(tmp_path / "new.db", create=True) as new:
        controller(store, FakeProposer(), FakeEvaluator()).run()
        second = store.create_search(spec(), Idea("again"))
        evaluator = FakeEvaluator()
        controller(store, FakeProposer(), evaluator, search=second).run()
        assert not evaluator.judged  # all of it was known
        text = exported(store, second)
        import_text(new, text)
        assert exported(new, 1) == text
        assert new.tree(1).best(1)[0].time_ms == store.tree(second).best(1)[0].time_ms


# -------------------------------------------------------------------------------------------- generated trees

_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20)
_TIME = st.floats(1e-6, 1e6)
_OUTCOMES = st.sampled_from([Outcome.OK, Outcome.WRONG_RESULT, Outcome.TIMEOUT])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ideas=st.lists(st.tuples(_TEXT, _TEXT, st.integers(0, 3)), max_size=5),
    kernels=st.lists(st.tuples(_TEXT, _OUTCOMES, _TIME, _TEXT), max_size=6),
    pruned=st.booleans(),
)
def test_any_small_tree_survives(ideas: list[Any], kernels: list[Any], pruned: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with open_store(Path(folder) / "a.db", create=True) as store:
            _grow(store, ideas, kernels, pruned)
            text = exported(store, 1)
        with open_store(Path(folder) / "b.db", create=True) as new:
            new.create_search(spec(), Idea("in the way"))
            import_text(new, text)
            assert exported(new, 2) == text


def _grow(store: SqliteStore, ideas: list[Any], kernels: list[Any], pruned: bool) -> None:
    search = store.create_search(spec(), Idea("root"))
    step = 0
    for text, why, under in ideas:
        nodes = list(store.tree(search).nodes)
        parent = nodes[under % len(nodes)]
        job = PlannedJob(JobKind.IDEATE, f"k{step}", {"parent": parent, "base": None, "count": 1, "round": step})
        store.record(search, step, [Ideate(parent, None, 1, step)], [job], text)
        step += 1
        claimed = store.claim(search, "me", [JobKind.IDEATE], 60)
        assert claimed and store.finish(claimed, IdeasResult((Idea(text, why),), "m"))
    nodes = list(store.tree(search).nodes)
    for index, (code, outcome, time_ms, message) in enumerate(kernels):
        node = nodes[index % len(nodes)]
        job = PlannedJob(JobKind.IMPLEMENT, f"i{index}", {"node": node, "variant": index})
        store.record(search, step, [Implement(node, index)], [job])
        step += 1
        claimed = store.claim(search, "me", [JobKind.IMPLEMENT], 60)
        assert claimed and store.finish(claimed, CodeResult(code, "m"))
        wanted = store.claim(search, "me", [JobKind.EVALUATE], 60)
        if wanted is not None:
            figure = time_ms if outcome is Outcome.OK else None
            result = EvaluationResult(outcome, Stage.TIME, message, basis=Basis.PROJECTED, time_ms=figure)
            assert store.finish(wanted, EvaluatedResult(result, DEVICE))
    if pruned:
        store.record(search, step, [Prune(nodes[-1], "enough")], [])


# ------------------------------------------------------------------------------------------------ broken files


def _edit(text: str, table: str, **changed: Any) -> str:
    """The file with the first row of *table* changed."""
    lines = text.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith(f'{{"table": "{table}"'))
    lines[at] = json.dumps({**json.loads(lines[at]), **changed}) + "\n"
    return "".join(lines)


def _without(text: str, table: str, key: str) -> str:
    lines = text.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith(f'{{"table": "{table}"'))
    row = json.loads(lines[at])
    del row[key]
    lines[at] = json.dumps(row) + "\n"
    return "".join(lines)


BROKEN = {
    "cut in a line": (lambda t: t[: len(t) * 2 // 3], r"line \d+: the line has no end"),
    "cut between lines": (lambda t: "".join(t.splitlines(keepends=True)[:-2]), "has .* of the .* decision rows"),
    "empty": (lambda t: "", "the file is empty"),
    "not JSON": (lambda t: t.replace("\n", "\n{]\n", 1), "line 2: not JSON"),
    "no object": (lambda t: t.replace("\n", "\n[1]\n", 1), r"line 2: \[1\], not an object"),
    "unknown table": (lambda t: t.replace('"table": "node"', '"table": "secrets"', 1), "there is no table 'secrets'"),
    "missing key": (lambda t: _without(t, "evaluation", "basis"), r"\(evaluation 1\): the key 'basis' is missing"),
    "unknown key": (lambda t: _edit(t, "node", colour="red"), r"\(node 1\): there is no column 'colour'"),
    "text for a number": (lambda t: _edit(t, "evaluation", time_ms="fast"), "'time_ms' is \"fast\", not a number"),
    "list for an object": (lambda t: _edit(t, "search", options=[]), r"'options' is \[\], not an object"),
    "NaN": (lambda t: _edit(t, "evaluation", max_error=float("nan")), r"\(evaluation 1\): 'max_error' is nan"),
    "unknown outcome": (
        lambda t: _edit(t, "evaluation", outcome="splendid", time_ms=None),
        r"\(evaluation 1\): the store",
    ),
    "unknown program": (lambda t: _edit(t, "implementation", program="0" * 64), "program 000000000000 is not in"),
    "unknown node": (lambda t: _edit(t, "implementation", node_id=99), "node 99 is not a node of search 1"),
    "unknown job": (lambda t: _edit(t, "completion", job_id=999), "refers to job 999, which is not in the file"),
    "own parent": (lambda t: _edit(t, "node", parent_id=1), "its parent 1 is not an earlier node"),
    "other source": (lambda t: _edit(t, "problem", source="x"), r"\(problem 1\): the digest is not that of the source"),
    "no instance": (lambda t: _edit(t, "search", instance={}), "'instance' does not have the keys"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_says_where_and_imports_nothing(case: str, grove: SqliteStore, tmp_path: Path) -> None:
    breaks, says = BROKEN[case]
    path = tmp_path / "new.db"
    with open_store(path, create=True) as new:
        with pytest.raises(BrokenFile, match=says):
            import_text(new, breaks(exported(grove, 1)))
        assert list_document(new) == []
    plain = sqlite3.connect(path)
    assert [plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES] == [0] * len(TABLES)
    plain.close()


def test_a_newer_file_is_refused(grove: SqliteStore) -> None:
    text = exported(grove, 1).replace('"schema": ', '"schema": 9', 1)
    with pytest.raises(StoreError, match=r"written by a newer KernelGrove .*upgrade"):
        import_text(grove, text)
