"""``pause`` and ``retry``: what one process tells a search that runs in another, through the store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_search import FakeEvaluator, FakeProposer, controller, spec
from groves import ask, change, finished

from kernelgrove import cli
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.errors import ProposerError
from kernelgrove.model import JobKind, JobState, SearchStatus, StoppedBy
from kernelgrove.storage import SqliteStore, open_store

#: Runs search 1 slowly, and prints what ended it.
RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from fake_search import FakeEvaluator, FakeProposer, controller
from kernelgrove import strategies
from kernelgrove.storage import open_store

with open_store(sys.argv[1]) as store:
    strategy = strategies.make("branch", {"rounds": 9, "widths": 3, "depths": 3})
    proposer = FakeProposer(delay=lambda request: 0.3)
    print(controller(store, proposer, FakeEvaluator(delay=lambda request: 0.3), search=1, strategy=strategy).run())
"""


@contextmanager
def running(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a new search s1, from when it has leased something."""
    with open_store(path, create=True) as store:
        store.create_search(spec(), ROOT_IDEA)
    here = str(Path(__file__).parent)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(path), here], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: bool(leased(path)))
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def leased(path: Path) -> set[int]:
    return {row[0] for row in ask(path, "SELECT id FROM job WHERE state = 'leased'")}


def until(what: object, seconds: float = 60) -> None:
    assert callable(what)
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_search_in_another_process_finishes_what_runs_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "grove.db"
    with running(path) as process:
        assert cli.run(["pause", "s1", "--db", str(path), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["search"] == "s1" and f"process {process.pid} on " in document["asked"]
        assert cli.run(["pause", "--wait", "--db", str(path)]) == 0, "asking twice does no harm"
        assert "s1 is paused" in capsys.readouterr().out
        assert process.wait(30) == 0
        assert process.stdout is not None and process.stdout.read() == "user\n"
    with open_store(path) as store:
        record = store.search(1)
        assert (record.status, record.stopped_by) == (SearchStatus.PAUSED, StoppedBy.USER)
        assert ask(path, "SELECT count(*) FROM job WHERE attempt > 1 OR state = 'leased'") == [(0,)], "all had ended"
        assert ask(path, "SELECT count(*) FROM job WHERE state = 'done'")[0][0] > 0
        assert cli.run(["verify", "--db", str(path)]) == 0
        assert controller(store, search=1).run() is StoppedBy.STRATEGY, "it can be resumed"
        assert store.search(1).stopped_by is StoppedBy.STRATEGY


def test_of_a_process_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grove.db"
    with running(path) as process:
        process.kill()
        process.wait()
        assert cli.run(["pause", "--db", str(path)]) == 2
    assert "s1 is not running: the process that ran it is gone. Go on with" in capsys.readouterr().err
    with open_store(path) as store:
        assert store.search(1).stopped_by is None, "a later resume is not stopped by it"


def test_of_a_search_that_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["pause", "--db", str(finished(tmp_path / "grove.db"))]) == 2
    assert "s1 is not running: it is finished." in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- retry


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as made:
        yield made


def refusing(store: SqliteStore, *, again: bool) -> int:
    """A search, run to its end, whose proposer could not write most programs."""
    proposer = FakeProposer(
        raises=lambda r: ProposerError("out of quota", retry=again) if r.kind is JobKind.IMPLEMENT else None
    )
    search = controller(store, proposer).search_id
    controller(store, proposer, search=search).run()
    return search


@pytest.mark.parametrize("again", [False, True], ids=["failed", "dead"])
def test_jobs_that_were_given_up_run_when_it_is_resumed(
    store: SqliteStore, again: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    search = refusing(store, again=again)
    lost = [j.id for j in store.tree(search).jobs if j.state in (JobState.FAILED, JobState.DEAD)]
    assert lost
    db = str(store.location.path)
    assert cli.run(["retry", f"s{search}", "--db", db]) == 0
    said = capsys.readouterr().out
    assert "out of quota" in said and f"{len(lost)} queued again" in said and all(f"t{job} " in said for job in lost)
    assert store.search(search).status is SearchStatus.PAUSED
    assert cli.run(["verify", "--db", db]) == 0
    controller(store, search=search).run()
    view = store.tree(search)
    assert {j.state for j in view.jobs if j.id in lost} == {JobState.DONE}
    assert len(view.implementations) >= len(lost)
    assert store.search(search).status is SearchStatus.FINISHED


def test_a_retried_job_has_attempts_left_and_its_former_holder_is_fenced_off(store: SqliteStore) -> None:
    search = refusing(store, again=True)
    (before,) = ask(store.location.path, "SELECT id, attempt FROM job WHERE state = 'dead' LIMIT 1")
    assert cli.run(["retry", "--db", str(store.location.path)]) == 0
    sql = "SELECT attempt, max_attempts - attempt, owner, reason FROM job WHERE id = ?"
    ((attempt, left, owner, reason),) = ask(store.location.path, sql, before[0])
    assert attempt > before[1] and left == 2 and owner is None and "out of quota" in reason
    assert store.search(search).status is SearchStatus.PAUSED


def test_nothing_to_retry_leaves_a_search_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished(tmp_path / "grove.db")
    assert cli.run(["retry", "--db", str(path)]) == 0
    assert capsys.readouterr().out == "s1: no job has failed\n"
    assert ask(path, "SELECT status FROM search") == [("finished",)]
    assert cli.run(["retry", "--json", "--db", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_job_that_would_be_refused_again_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished(tmp_path / "grove.db")
    change(path, "UPDATE job SET state = 'failed', reason = 'r/0 was implemented by another job already' WHERE id = 1")
    assert cli.run(["retry", "--db", str(path)]) == 0
    assert "no job has failed" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------- a clock that is set


class Clock:
    """Stands for the ``time`` module of the store."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from kernelgrove.storage import store as module

    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def lease(store: SqliteStore, owner: str) -> tuple[int, object]:
    from kernelgrove.ports import PlannedJob

    search = store.create_search(spec(), ROOT_IDEA)
    root = store.tree(search).root
    store.record(search, 0, [], [PlannedJob(JobKind.IDEATE, "ideate:r", {"parent": root})])
    return search, store.claim(search, owner, [JobKind.IDEATE], 60.0)


def test_set_back_an_hour_a_lease_is_held_and_its_holder_can_end_it(store: SqliteStore, clock: Clock) -> None:
    search, job = lease(store, "ann")
    clock.now -= 3600
    assert store.renew(job, 60.0)  # type: ignore[arg-type]
    assert store.claim(search, "bob", [JobKind.IDEATE], 60.0) is None
    clock.now += 61  # by the clock as it is now, renewed leases end as they should
    assert store.claim(search, "bob", [JobKind.IDEATE], 60.0) is not None
    assert not store.renew(job, 60.0)  # type: ignore[arg-type]


def test_set_back_an_hour_a_dead_process_loses_its_lease_at_once(store: SqliteStore, clock: Clock) -> None:
    search, _ = lease(store, "ann")
    clock.now -= 3600
    assert store.recover(search, lambda owner: False) == 1
    assert store.claim(search, "bob", [JobKind.IDEATE], 60.0) is not None


def test_set_back_an_hour_a_lease_that_nobody_can_ask_after_ends_with_that_hour(
    store: SqliteStore, clock: Clock
) -> None:
    search, _ = lease(store, "elsewhere")
    clock.now -= 3600
    assert store.recover(search, lambda owner: True) == 0
    clock.now += 3600 + 61
    assert store.recover(search, lambda owner: True) == 1


def test_a_search_during_which_the_clock_is_set_back_loses_nothing(store: SqliteStore, clock: Clock) -> None:
    def judge(_: object) -> float:
        clock.now -= 3600
        return 0.0

    assert controller(store, FakeProposer(), FakeEvaluator(delay=judge)).run() is StoppedBy.STRATEGY
    view = store.tree(1)
    assert not view.in_flight() and not [j for j in view.jobs if j.state is not JobState.DONE]
    assert ask(store.location.path, "SELECT max(attempt) FROM job") == [(1,)]
    assert store.search(1).elapsed_s >= 0, "time that was used is counted by another clock"
