"""What is SQLite's own: files that are not ours, schema, triggers, views and full text."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from kernelgrove.errors import KernelGroveError, NotFound, StoreError, UsageError
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    Outcome,
    Problem,
    Stage,
)
from kernelgrove.ports import (
    CodeResult,
    EvaluatedResult,
    IdeasResult,
    Job,
    PlannedJob,
    SearchSpec,
)
from kernelgrove.storage import SqliteStore, migrate, open_store
from kernelgrove.storage.connect import APPLICATION_ID
from kernelgrove.storage.tables import EVALUATION, PROGRAM, metadata

PROBLEM = Problem("relu", "class Model: ...")
INSTANCE = Instance("relu", PROBLEM.digest, "full", "x", "full", "x")
GPU = Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED, {"torch": "2.11"})
SPEC = SearchSpec(PROBLEM, INSTANCE, GPU, "branch", {}, ("rules",), 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grove.db"


@cache
def _new_file() -> bytes:
    """A database just made: copying it is quicker than migrating for every test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        open_store(path, create=True).close()
        return path.read_bytes()


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    path.write_bytes(_new_file())
    with open_store(path) as made:
        yield made


def fill(store: SqliteStore, ideas: int = 2) -> int:
    """A search with judged implementations, one an idea; the first took 1 ms, the next 2 ms, …"""
    search = store.create_search(SPEC, Idea("the reference"))
    root = store.tree(search).root
    store.record(search, 0, [], [PlannedJob(JobKind.IDEATE, "ideate:r", {"parent": root, "round": 1})])
    job = take(store, JobKind.IDEATE)
    texts = tuple(Idea(f"fusing loop {n} into one pass", "saves traffic") for n in range(ideas))
    store.finish(job, IdeasResult(texts, "rules"))
    nodes = [n for n in store.tree(search).nodes if n != root]
    jobs = [PlannedJob(JobKind.IMPLEMENT, f"implement:{n}", {"variant": 0}, node=n) for n in nodes]
    store.record(search, 1, [], jobs)
    for number, _ in enumerate(nodes, 1):
        store.finish(take(store, JobKind.IMPLEMENT), CodeResult(f"BLOCK_SIZE = {number}\n", "rules"))
        passed = EvaluationResult(
            Outcome.OK, Stage.TIME, time_ms=float(number), baselines={"eager": 4.0}, speedup={"eager": 4.0 / number}
        )
        if store.tree(search).in_flight(JobKind.EVALUATE):  # a second search knows the verdict already
            store.finish(take(store, JobKind.EVALUATE), EvaluatedResult(passed, GPU))
    return search


def take(store: SqliteStore, kind: JobKind, owner: str = "me") -> Job:
    job = store.claim(None, owner, [kind], 60)
    assert job is not None
    return job


# ---------------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("create", [False, True])
def test_garbage_is_refused_and_left_alone(path: Path, create: bool) -> None:
    path.write_text("hello, not a database " * 99)
    with pytest.raises(StoreError, match=r"grove\.db is not a KernelGrove database"):
        open_store(path, create=create)
    assert path.read_text().startswith("hello") and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("create", [False, True])
def test_another_programs_database_is_refused_and_left_alone(path: Path, create: bool) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE node (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"grove\.db is not a KernelGrove database"):
        open_store(path, create=create)
    assert path.read_bytes() == before


def test_a_newer_file_is_refused(path: Path, store: SqliteStore) -> None:
    store.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 7")
    newer.close()
    with pytest.raises(StoreError, match=r"grove\.db was written by a newer KernelGrove \(schema 7, this"):
        open_store(path, create=True)


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_reading_makes_no_file(path: Path, empty: bool) -> None:
    if empty:
        path.touch()
    with pytest.raises(NotFound, match=r"grove\.db"):
        open_store(path)
    assert path.exists() is empty
    open_store(path, create=True).close()  # an empty file is as good as none


@pytest.mark.parametrize("what", ["folder", "no parent", "under a file"])
def test_paths_that_cannot_be(path: Path, what: str) -> None:
    if what == "folder":
        path.mkdir()
    if what == "under a file":
        path.touch()
    target = path if what == "folder" else path / "x.db"
    with pytest.raises(StoreError, match=r"grove\.db"):
        open_store(target, create=True)


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("plain.db", "sqlite:///relative.db", f"sqlite:///{tmp_path}/absolute.db", "odd ?#%41 name.db"):
        open_store(url, create=True).close()
        open_store(url).close()
    names = {"plain.db", "relative.db", "absolute.db", "odd ?#%41 name.db"}
    assert {p.name for p in tmp_path.glob("*.db")} == names
    for url in ("postgresql://host/db", "mysql://x/y", "sqlite://", ":memory:", ""):
        with pytest.raises(UsageError):
            open_store(url, create=True)


def test_reading_commands_import_nothing_heavy(path: Path, store: SqliteStore) -> None:
    fill(store)
    store.close()
    code = (
        "import sys; from kernelgrove.storage import open_store, documents\n"
        "with open_store(sys.argv[1]) as s: assert len(documents.list_document(s)) == 1\n"
        "heavy = {'alembic', 'torch', 'triton', 'networkx', 'sqlmodel', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


# ------------------------------------------------------------------------------------------- read-only, trouble


def _as_nobody(folder: Path, code: str, *arguments: str) -> str:
    """Run *code* as a user who owns nothing here (root ignores permissions); returns what it prints."""
    drop = "import os; os.getuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
    imports = "import sys; from kernelgrove.storage import open_store, documents; from kernelgrove.errors import *\n"
    done = subprocess.run(
        [sys.executable, "-c", imports + drop + code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_READ = "print(len(documents.tree_document(open_store(sys.argv[1]), 1)['nodes']))"
_WRITE = """
try: open_store(sys.argv[1], create=True).add_elapsed(1, 1.0)
except StoreError as error: print(error)
"""


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A folder that another user may reach (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_file_can_be_read_and_says_so_when_written(shelf: Path) -> None:
    path = shelf / "grove.db"
    with open_store(path, create=True) as store:
        fill(store)
    path.chmod(0o444)
    shelf.chmod(0o555)
    assert _as_nobody(shelf, _READ, str(path)) == "3"
    assert "grove.db is read-only" in _as_nobody(shelf, _WRITE, str(path))


def test_what_a_crash_left_in_the_log_can_be_read_from_a_read_only_folder(shelf: Path) -> None:
    path, copy = shelf / "live.db", shelf / "grove.db"
    with open_store(path, create=True) as store:
        fill(store)
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")  # as after kill -9: the log holds all of it
        fill(store)
    assert Path(f"{copy}-wal").stat().st_size > 0
    shelf.chmod(0o555)
    assert _as_nobody(shelf, _READ, str(copy)) == "3"
    assert not Path(f"{copy}-shm").exists()


def test_a_file_that_vanishes_is_noticed(path: Path, store: SqliteStore) -> None:
    search = fill(store)
    path.rename(path.with_suffix(".moved"))
    with pytest.raises(StoreError, match=r"grove\.db was moved or deleted"):
        store.add_elapsed(search, 1.0)
    path.with_suffix(".moved").rename(path)
    store.add_elapsed(search, 1.0)


def test_a_full_disk_is_one_sentence_and_loses_nothing(store: SqliteStore) -> None:
    search = fill(store)
    with store.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with store.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    root = store.tree(search).root
    job = PlannedJob(JobKind.IDEATE, "x" * 100_000, {"parent": root})
    with pytest.raises(StoreError, match=r"grove\.db: the disk is full"):
        store.record(search, 2, [], [job])
    with store.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert store.tree(search).step == 2
    assert store.record(search, 2, [], [job])


def test_a_file_that_stays_locked_is_one_sentence(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setattr("kernelgrove.storage.connect.BUSY_S", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"grove\.db was locked by another process"):
        store.create_search(SPEC, Idea("x"))
    other.execute("ROLLBACK")
    other.close()
    assert store.create_search(SPEC, Idea("x")) == 1


def test_a_damaged_file_is_one_sentence(path: Path, store: SqliteStore) -> None:
    for _ in range(5):
        fill(store)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"grove\.db"), open_store(path) as damaged:
        damaged.tree(1)


# ------------------------------------------------------------------------------------------------ the schema


def test_migrations_build_what_the_tables_say(store: SqliteStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(_: object, name: str | None, kind: str, *__: object) -> bool:
        return kind != "table" or not (str(name).endswith("_fts") or "_fts_" in str(name) or name == "alembic_version")

    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours})
        assert compare_metadata(context, metadata) == []
        made = dict(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all())
    for name, table in metadata.tables.items():
        checks = {str(c.sqltext) for c in table.constraints if hasattr(c, "sqltext")}
        assert all(check in made[name] for check in checks), name
        assert made[name].count("CHECK") == len(checks), name


def test_the_newest_migration_is_the_schema(store: SqliteStore) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == f"{migrate.SCHEMA:04d}"
    with store.read() as connection:
        assert connection.exec_driver_sql("PRAGMA application_id").scalar_one() == APPLICATION_ID
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == migrate.SCHEMA
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    with store.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_a_migration_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def upgrade(connection: object) -> None:
        connection.exec_driver_sql("CREATE TABLE half (x)")  # type: ignore[attr-defined]
        raise KernelGroveError("stopped half way")

    monkeypatch.setattr(migrate, "upgrade", upgrade)
    with pytest.raises(KernelGroveError, match="half way"):
        open_store(path, create=True)
    monkeypatch.undo()
    open_store(path, create=True).close()


def test_enumerations_are_checked(store: SqliteStore) -> None:
    search = store.create_search(SPEC, Idea("x"))
    with pytest.raises(StoreError, match="ck_search_status"), store.write() as connection:
        connection.exec_driver_sql(f"UPDATE search SET status = 'asleep' WHERE id = {search}")


# ----------------------------------------------------------------------------------- facts, views, full text


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evaluation SET time_ms = 0.001",
        "DELETE FROM evaluation",
        "UPDATE program SET code = 'x'",
    ],
)
def test_facts_never_change(store: SqliteStore, statement: str) -> None:
    fill(store)
    with pytest.raises(StoreError, match="never"), store.write() as connection:
        connection.exec_driver_sql(statement)


def test_full_text_finds_ideas_and_code(store: SqliteStore) -> None:
    fill(store)
    find = "SELECT n.idea FROM idea_fts f JOIN node n ON n.id = f.rowid WHERE idea_fts MATCH ? ORDER BY rank"
    code = "SELECT p.code FROM code_fts f JOIN program p ON p.id = f.rowid WHERE code_fts MATCH ?"
    with store.read() as connection:
        assert len(connection.exec_driver_sql(find, ("fused traffic",)).all()) == 2
        assert connection.exec_driver_sql(find, ("transpose",)).all() == []
        assert len(connection.exec_driver_sql(code, ("BLOCK_SIZE",)).all()) == 2
        assert connection.exec_driver_sql(code, ("BLOCK",)).all() == []
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE node SET idea = 'transpose' WHERE idea LIKE '%loop 0%'")
        assert len(connection.exec_driver_sql(find, ("transposing",)).all()) == 1
        connection.exec_driver_sql("INSERT INTO idea_fts(idea_fts) VALUES ('integrity-check')")
        connection.exec_driver_sql("INSERT INTO code_fts(code_fts) VALUES ('integrity-check')")


def test_views_read_well_in_any_sqlite_tool(store: SqliteStore) -> None:
    search = fill(store, ideas=3)
    with store.read() as connection:
        board = connection.exec_driver_sql(
            "SELECT rank, time_ms, speedup_eager, basis, device_key FROM leaderboard WHERE search_id = ?", (search,)
        ).all()
        tree = connection.exec_driver_sql("SELECT depth, address, best_ms, indented FROM node_tree").all()
    assert board[0] == (1, 1.0, 4.0, "measured", "NVIDIA H200") and [row[0] for row in board] == [1, 2, 3]
    assert [tuple(row[:3]) for row in tree][:2] == [(0, "r", None), (1, "r.0-0", 1.0)]
    assert tree[1][3].startswith("  fusing")


def test_a_file_that_was_closed_while_someone_read_it_can_be_copied(store: SqliteStore, tmp_path: Path) -> None:
    search = fill(store)
    view, path = store.tree(search), store.location.path
    reading = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    reading.execute("SELECT count(*) FROM node").fetchall()
    store.close()
    shutil.copyfile(path, tmp_path / "copy.db")  # without its log, which the reader keeps alive
    reading.close()
    with open_store(tmp_path / "copy.db") as copied:
        assert copied.tree(search) == view


def test_known_evaluations_are_found_by_the_index(store: SqliteStore) -> None:
    search = fill(store)
    program = next(iter(store.tree(search).implementations.values())).program
    with store.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM evaluation WHERE program = ? AND problem_digest = ?"
            " AND size_key = 'full' AND device_key = 'x' AND target = 'x' AND precision = 'x' AND tolerance IS NULL"
            " AND protocol = 1",
            (program, PROBLEM.digest),
        ).all()
    assert "ix_evaluation_known" in str(plan)


def test_a_figure_that_is_not_finite_is_no_figure(store: SqliteStore) -> None:
    fill(store)
    with store.write() as connection:
        row = dict(connection.execute(select(EVALUATION)).mappings().first() or {})
        del row["id"]
        row |= {"max_error": float("inf"), "time_ms": float("nan"), "detail": {"x": [float("nan")]}}
        id_ = connection.execute(insert(EVALUATION).values(row).returning(EVALUATION.c.id)).scalar_one()
        kept = connection.exec_driver_sql(f"SELECT max_error, time_ms, detail FROM evaluation WHERE id = {id_}").one()
    assert tuple(kept) == (None, None, '{"x": [null]}')


def test_a_program_is_stored_once(store: SqliteStore) -> None:
    fill(store)
    fill(store)
    with store.read() as connection:
        codes = connection.execute(select(PROGRAM.c.code)).scalars().all()
    assert codes == ["BLOCK_SIZE = 1\n", "BLOCK_SIZE = 2\n"]
