"""What the world does to a store: a disk that fills up, a path that vanishes, rival controllers, clocks that jump.

``kill -9`` is in ``test_store_kill`` and ``torture``, damaged files in ``test_damage``.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from fake_search import FakeEvaluator, FakeProposer, controller, dice, run_in_another_process, spec

from kernelgrove import cli, strategies
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.errors import KernelGroveError, StoreError
from kernelgrove.model import EvaluationRequest, JobState, SearchStatus, StoppedBy
from kernelgrove.storage import SqliteStore, connect, open_store
from kernelgrove.storage.care.verify import verify

TREE = {"rounds": 3, "widths": 2, "depths": 2, "together": True}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "grove.db"


@pytest.fixture
def store(db: Path) -> Iterator[SqliteStore]:
    db.parent.mkdir()
    with open_store(db, create=True) as opened:
        yield opened


def programs(store: SqliteStore, search: int) -> dict[str, Any]:
    view = store.tree(search)
    return {i.address: (i.program, i.evaluation and i.evaluation.outcome) for i in view.implementations.values()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    """The programs of a search that nothing happened to."""
    with open_store(tmp_path / "calm.db", create=True) as calm:
        run = controller(calm, strategy=strategies.make("branch", TREE))
        run.run()
        return programs(calm, run.search_id)


# ------------------------------------------------------------------------------------------------ a full disk

TMPFS = 12 * 2**20  # a grove of the search in ``full_disk``, with its log
STORE = 450_000  # an empty grove, with its log


def namespace(folder: Path) -> list[str]:
    """How to run something with a file system of its own mounted at *folder*. Skips where that is not allowed."""
    mount = f"mount -t tmpfs -o size={TMPFS} tmpfs {folder}"
    for unshare in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        words = [*unshare, "sh", "-c", f'{mount} && exec "$@"', "sh"]
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    pytest.skip("no file system can be mounted here (unshare, mount)")


@pytest.mark.parametrize("free", [300_000, 1_000_000, 1_900_000])
def test_a_disk_that_is_full_in_the_middle_of_a_commit(tmp_path: Path, free: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("full_disk.py")), str(tmp_path), str(TMPFS - STORE - free)]
    done = subprocess.run([*namespace(tmp_path), *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (said,) = found["told"]
    assert said == f"{tmp_path}/grove.db: the disk is full. Free some space and resume: what was stored is safe."
    assert found["acknowledged"] > 0 and found["lost"] == []
    assert found["ended"] == "strategy" and found["judged"] == 20 and found["findings"] == []


# ---------------------------------------------------------------------------------------- a path that vanishes


def test_a_folder_that_vanishes_ends_the_search_in_one_sentence_and_it_goes_on_where_it_was(
    db: Path, store: SqliteStore, whole: dict[str, Any]
) -> None:
    away = db.parent.with_name("away")
    judged: list[str] = []

    def move(request: EvaluationRequest) -> float:
        judged.append(request.code)
        if len(judged) == 4:
            db.parent.rename(away)
        return 0.0

    run = controller(store, evaluator=FakeEvaluator(parallel=1, delay=move), strategy=strategies.make("branch", TREE))
    with pytest.raises(StoreError, match=r"grove\.db was moved or deleted while in use\. Put it back and resume\."):
        run.run()
    assert cli.run(["ls", "--db", str(db)]) == 2, "there is nothing at its place"
    store.close()
    away.rename(db.parent)
    with open_store(db) as again:
        kept = list(again.tree(run.search_id).judged())
        assert len(kept) == 3, "what had been acknowledged"
        strategy = strategies.make("branch", TREE)
        assert controller(again, search=run.search_id, strategy=strategy).run() is StoppedBy.STRATEGY
        assert programs(again, run.search_id) == whole
        assert verify(again).findings == ()


def test_a_file_that_goes_while_it_is_opened_was_moved_whatever_sqlite_says_of_it(
    db: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was just being made then calls it a failure of the disk."""
    store.create_search(spec(), ROOT_IDEA)
    store.close()
    opened = connect.connect_reader

    def fails(path: Path) -> sqlite3.Connection:
        opened(path).close()
        db.parent.rename(db.parent.with_name("away"))
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with open_store(db) as again:
        with again.write():
            pass
        monkeypatch.setattr(connect, "connect_reader", fails)
        with pytest.raises(StoreError, match=r"grove\.db was moved or deleted while in use\."), again.read():
            pass


def test_another_file_in_its_place_is_not_written_to(db: Path, store: SqliteStore) -> None:
    search = store.create_search(spec(), ROOT_IDEA)
    db.rename(db.with_suffix(".kept"))
    with open_store(db, create=True) as other:
        other.create_search(spec(), ROOT_IDEA)
    before = db.read_bytes()
    with pytest.raises(StoreError, match=r"grove\.db was replaced by another file while in use"):
        store.set_status(search, SearchStatus.FINISHED)
    assert db.read_bytes() == before


# ------------------------------------------------------------------------------------ two controllers at once


def run_when_told(db: str, search: int, gate: Any, ended: Any) -> None:
    """What each of several processes does: everything but the run is done before the *gate* opens."""

    class Gate:
        def set(self) -> None:
            gate.wait()

    class Result:
        def send(self, by: str) -> None:
            ended.put(("ran", by))

    try:
        run_in_another_process(db, search, Gate(), Result())
    except KernelGroveError as error:
        ended.put((type(error).__name__, str(error)))


def test_of_controllers_started_in_the_same_second_one_runs_the_search(
    db: Path, store: SqliteStore, whole: dict[str, Any]
) -> None:
    processes = multiprocessing.get_context("fork")
    for turn in range(4):
        search = store.create_search(spec(tolerance=1.0 + turn), ROOT_IDEA)
        gate, ended = processes.Barrier(3), processes.Queue()
        store.close()  # no connection of ours goes through a fork
        started = [processes.Process(target=run_when_told, args=(str(db), search, gate, ended)) for _ in range(3)]
        for process in started:
            process.start()
        told = Counter(ended.get(timeout=60)[0] for _ in started)
        for process in started:
            process.join(20)
        assert told == {"ran": 1, "Conflict": 2}
        view = store.tree(search)
        assert programs(store, search) == whole
        assert not view.in_flight() and {job.state for job in view.jobs} == {JobState.DONE}
        with store.read() as connection:
            attempts = connection.exec_driver_sql(f"SELECT max(attempt) FROM job WHERE search_id = {search}").scalar()
        assert attempts == 1, "nothing was taken from the one that runs"


# ------------------------------------------------------------------------------------------------------ clocks


class Clock:
    """Wall time that jumps. Only the store looks at it; the loop's own clock is monotonic, as the system's is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = time.time
        monkeypatch.setattr("kernelgrove.storage.store.time.time", lambda: real() + self.ahead)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0], ids=["an hour back", "past every lease"])
def test_a_clock_that_jumps_takes_no_job_from_who_works_on_it(
    store: SqliteStore, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock = Clock(monkeypatch)
    running = threading.Semaphore(0)

    def hold(request: EvaluationRequest) -> float:
        running.release()
        if dice("jump", request.code) < 0.4:
            clock.ahead += jump_s  # with another evaluation under way, and a slot free for more
        return 0.05

    evaluator = FakeEvaluator(parallel=3, delay=hold)
    run = controller(store, FakeProposer(), evaluator, strategy=strategies.make("branch", TREE), lease_s=30.0)
    assert run.run() is StoppedBy.STRATEGY and clock.ahead
    assert programs(store, run.search_id) == whole
    assert len(evaluator.judged) == len(set(evaluator.judged)), "judged twice"
    with store.read() as connection:
        jobs = connection.exec_driver_sql("SELECT state, attempt, count(*) FROM job GROUP BY 1, 2").all()
        assert [tuple(row)[:2] for row in jobs] == [("done", 1)]
    assert verify(store).findings == ()


def test_after_the_clock_was_set_back_a_dead_controllers_jobs_are_taken_at_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernelgrove.engine.jobs import Owner

    search = store.create_search(spec(), ROOT_IDEA)
    gone = Owner(Owner.here().host, 1 << 22, "long.ago", "controller.1")
    first = controller(store, search=search)
    first.run()
    with store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE job SET state = 'leased', owner = ?, lease_until = ? WHERE id = (SELECT max(id) FROM job)",
            (str(gone), time.time() + 60),
        )
        connection.exec_driver_sql("UPDATE search SET status = 'running', note = ?", (str(gone),))
    Clock(monkeypatch).ahead = -3600.0
    assert store.recover(search, lambda owner: owner != str(gone)) == 1
