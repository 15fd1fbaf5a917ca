"""Files of every past schema (``tests/assets/groves``) open, lose nothing, and go on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kernelgrove import cli
from kernelgrove.model import EvaluationResult, JobKind, JobState, Outcome, Stage
from kernelgrove.ports import CodeResult, EvaluatedResult
from kernelgrove.storage import documents, migrate, open_store
from kernelgrove.storage.care.verify import verify
from kernelgrove.storage.importers import jsonl
from kernelgrove.storage.tables import metadata

GROVES = Path(__file__).parents[1] / "assets" / "groves"
PAST = range(1, migrate.SCHEMA)


def rows(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, list[Any]]:
    """Every row of every table, of *columns* where given."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        return {
            name: [
                {column: row[column] for column in (columns[name] if columns else row.keys())}
                for row in file.execute(f"SELECT * FROM {name} ORDER BY id")
            ]
            for name in metadata.tables
        }


@pytest.fixture(params=PAST)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "grove.db"
    shutil.copyfile(GROVES / f"schema-{request.param:04d}.db", path)
    yield path


def test_a_file_of_every_past_schema_is_kept() -> None:
    assert [f"schema-{number:04d}.db" for number in PAST] == sorted(path.name for path in GROVES.glob("*.db"))


def test_an_old_file_is_upgraded_and_every_row_stays(old: Path) -> None:
    before = rows(old)
    columns = {name: list(found[0]) for name, found in before.items()}  # the asset has rows in every table
    with open_store(old) as store:
        assert verify(store).findings == ()
    assert rows(old, columns) == before
    with closing(sqlite3.connect(old)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (migrate.SCHEMA,)
        wrong = "SELECT i.id FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id WHERE"
        assert file.execute(f"{wrong} i.outcome <> e.outcome OR i.basis <> e.basis").fetchall() == []
        assert file.execute(f"{wrong} i.time_ms IS NOT e.time_ms").fetchall() == []
        assert file.execute("SELECT count(*) FROM leaderboard").fetchone()[0] > 5
        spent = file.execute("SELECT model, calls, cut_off, cost_usd FROM cost WHERE search_id = 2").fetchall()
        assert spent == [("openai:small", 1, 0, 0.01)]  # the call that was cut off is not settled yet


def test_an_old_search_is_read_as_a_new_one(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ls", "tree s1", "tree s2 --depth 0", "best s1", "show i8", "lineage i8", "stats s2", "verify"):
        assert cli.run([*command.split(), "--db", str(old)]) == 0, command
    assert cli.run(["query", "best per problem", "--db", str(old)]) == 0
    assert "i8" in capsys.readouterr().out
    with open_store(old) as store:
        assert [row["evaluations"] for row in documents.list_document(store)] == [
            {"ok": 7},
            {"ok": 1, "wrong_result": 1},
        ]


def test_an_old_search_goes_on(old: Path) -> None:
    """Its controller died with a repair under way: the call is charged, and the repair is done again."""
    with open_store(old) as store:
        assert store.recover(2, lambda owner: False) == 1
        assert store.spent(2).cost_usd == pytest.approx(0.03)
        job = store.claim(2, "new", [JobKind.REPAIR], 60)
        assert job is not None and job.attempt == 2
        store.finish(job, CodeResult("import torch\nclass ModelNew:\n    fused = 2\n", "openai:small"))
        judged = store.claim(2, "new", [JobKind.EVALUATE], 60)
        assert judged is not None
        passed = EvaluationResult(Outcome.OK, Stage.TIME, time_ms=0.2, time_interval=(0.19, 0.21), timing="sealed")
        store.finish(judged, EvaluatedResult(passed, store.search(2).spec.device))
        view = store.tree(2)
        assert (view.best(1)[0].repair_of, view.best(1)[0].time_ms) == (9, 0.2)
        assert not [job for job in view.jobs if job.state is JobState.DEAD]


@pytest.mark.parametrize("schema", PAST)
def test_an_export_of_an_old_file_is_imported(schema: int, old: Path, tmp_path: Path) -> None:
    exported = GROVES / f"schema-{schema:04d}.jsonl"
    with open_store(tmp_path / "new.db", create=True) as new, open_store(old) as upgraded:
        with exported.open("rb") as lines:
            assert jsonl.load(new, lines, exported.name).searches == (1, 2)
        for search in (1, 2):
            assert documents.tree_document(new, search) == documents.tree_document(upgraded, search)
            assert documents.leaders(new, search, 9) == documents.leaders(upgraded, search, 9)
        assert verify(new).findings == ()
