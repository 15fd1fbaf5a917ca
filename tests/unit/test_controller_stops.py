"""How a search stops, and who may go on with it: interrupts, rivals, dead owners, leases."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_search import FakeEvaluator, controller, spec

from kernelgrove import strategies
from kernelgrove.engine import events as told
from kernelgrove.engine import jobs, planning
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.controller import Controller
from kernelgrove.engine.interrupt import guard
from kernelgrove.errors import Conflict, StoreError
from kernelgrove.model import EvaluationRequest, Implement, JobKind, JobState, SearchStatus, StoppedBy
from kernelgrove.storage.store import SqliteStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as opened:
        yield opened


def run_in_thread(run: Controller) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def body() -> None:
        try:
            ended.append(run.run())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, ended


def test_a_soft_stop_finishes_what_runs_and_starts_nothing(store: SqliteStore) -> None:
    gate, evaluator = threading.Event(), FakeEvaluator(parallel=1)
    started = threading.Event()

    def hold(request: EvaluationRequest) -> float:
        started.set()
        assert gate.wait(10)
        return 0.0

    evaluator.delay = hold
    run = controller(store, evaluator=evaluator)
    thread, ended = run_in_thread(run)
    assert started.wait(10)
    run.stop_softly()
    time.sleep(0.05)
    assert thread.is_alive(), "it waits for what runs"
    gate.set()
    thread.join(10)
    assert ended == [StoppedBy.USER]
    record, view = store.search(run.search_id), store.tree(run.search_id)
    assert (record.status, record.stopped_by) == (SearchStatus.PAUSED, StoppedBy.USER)
    assert evaluator.calls == 1 and len(list(view.judged())) == 1
    assert controller(store, search=run.search_id).run() is StoppedBy.STRATEGY


def test_a_hard_stop_gives_its_jobs_back_uncharged_and_a_late_result_is_not_taken(store: SqliteStore) -> None:
    gate, started = threading.Event(), threading.Event()

    def hold(request: EvaluationRequest) -> float:
        started.set()
        assert gate.wait(10)
        return 0.0

    run = controller(store, evaluator=FakeEvaluator(parallel=1, delay=hold))
    thread, ended = run_in_thread(run)
    assert started.wait(10)
    run.stop_now()
    thread.join(10)
    assert ended == [StoppedBy.USER] and not gate.is_set()
    (job,) = store.tree(run.search_id).in_flight()
    assert job.state is JobState.QUEUED and job.kind is JobKind.EVALUATE
    gate.set()
    claimed = store.claim(run.search_id, "someone", [JobKind.EVALUATE], 60)
    assert claimed is not None and claimed.attempt == 1
    assert not list(store.tree(run.search_id).judged())


def test_interrupts_once_softly_twice_now(store: SqliteStore) -> None:
    gate = threading.Event()

    def hold(request: EvaluationRequest) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert gate.wait(10)
        return 0.0

    before = signal.getsignal(signal.SIGINT)
    heard: list[told.Event] = []
    run = controller(store, evaluator=FakeEvaluator(parallel=1, delay=hold), events=heard.append)
    with guard(run):
        assert run.run() is StoppedBy.USER
    gate.set()
    assert signal.getsignal(signal.SIGINT) is before
    assert [e.running for e in heard if isinstance(e, told.Stopping)] == [1]


def test_two_controllers_of_one_search_are_refused(store: SqliteStore) -> None:
    gate, started = threading.Event(), threading.Event()

    def hold(request: EvaluationRequest) -> float:
        started.set()
        assert gate.wait(10)
        return 0.0

    run = controller(store, evaluator=FakeEvaluator(delay=hold))
    thread, ended = run_in_thread(run)
    try:
        assert started.wait(10)
        with pytest.raises(Conflict, match=f"run by process {os.getpid()}"):
            controller(store, search=run.search_id).run()
        assert store.search(run.search_id).status is SearchStatus.RUNNING, "the rival's search is left alone"
    finally:
        gate.set()
        thread.join(20)
    assert ended == [StoppedBy.STRATEGY]


def test_jobs_of_a_controller_that_died_are_taken_back_at_once(store: SqliteStore) -> None:
    search = store.create_search(spec(), ROOT_IDEA)
    dead = jobs.Owner(jobs.Owner.here().host, os.getpid(), "another.start", "controller.1")
    assert dead.alive() is False
    store.set_status(search, SearchStatus.RUNNING, None, str(dead))
    view = store.tree(search)
    store.record(search, 0, [Implement(1)], planning.plan(view, [Implement(1)], 1))
    assert store.claim(search, str(dead), [JobKind.IMPLEMENT], 3600) is not None
    heard: list[told.Event] = []
    assert controller(store, search=search, events=heard.append).run() is StoppedBy.STRATEGY
    assert isinstance(heard[0], told.SearchStarted) and heard[0].recovered == 1 and heard[0].resumed


def test_leases_are_renewed_while_a_job_runs(store: SqliteStore) -> None:
    taken: list[object] = []

    def hold(request: EvaluationRequest) -> float:
        time.sleep(1.5)  # longer than the lease
        taken.append(store.claim(run.search_id, "somebody else", [JobKind.EVALUATE], 60))
        return 0.0

    one = strategies.make("zero_shot", {"samples": 1})
    run = controller(store, evaluator=FakeEvaluator(parallel=1, delay=hold), strategy=one, lease_s=1.0)
    assert run.run() is StoppedBy.STRATEGY
    assert taken == [None]
    assert len(list(store.tree(run.search_id).judged())) == 1


def test_a_store_that_fails_in_a_jobs_thread_ends_the_search_and_not_the_job(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full while an answer is kept: the job is asked again on resume, not given up."""
    settle, failing = store.settle_completion, [True]

    def full(*arguments: Any) -> None:
        if failing:
            raise StoreError("grove.db: the disk is full.", "Free some space and resume.")
        settle(*arguments)

    monkeypatch.setattr(store, "settle_completion", full)
    run = controller(store)
    with pytest.raises(StoreError, match="the disk is full"):
        run.run()
    view = store.tree(run.search_id)
    assert [job.state for job in view.jobs] == [JobState.QUEUED] and store.search(run.search_id).note
    failing.clear()
    assert controller(store, search=run.search_id).run() is StoppedBy.STRATEGY
    assert {job.state for job in store.tree(run.search_id).jobs} == {JobState.DONE}
