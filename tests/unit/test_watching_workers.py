"""A judge that looks at a worker without a pause."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import pytest

from kernelgrove.engine.evaluator.workers.handle import Worker


@pytest.fixture
def ends(tmp_path: Any) -> tuple[Worker, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    owner: Any = None
    return Worker(owner, ours, 0, str(tmp_path), None), theirs


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def watched_s(worker: Worker, limit_s: float) -> float:
    started = time.perf_counter()
    worker.watch(limit_s)
    return time.perf_counter() - started


def test_it_looks_until_there_is_something_to_see(ends: tuple[Worker, socket.socket]):
    worker, theirs = ends
    worker.left_s = 60.0
    timer = threading.Timer(0.05, lambda: theirs.send(b"done"))
    timer.start()
    took = watched_s(worker, 30.0)
    timer.join()
    assert 0.04 < took < 15 and worker.left_s == pytest.approx(60 - took, abs=0.02), "that is the candidate's time"
    assert watched_s(worker, 30.0) < 15, "what is there is left there"
    assert worker._sock.recv(10) == b"done"


def test_it_looks_for_a_while_and_for_no_longer_than_the_candidate_has_left(ends: tuple[Worker, socket.socket]):
    worker, theirs = ends
    assert 0.05 <= watched_s(worker, 0.05) < 15
    worker.left_s = 0.05
    assert watched_s(worker, 30.0) < 15 and worker.left_s <= 0
    theirs.close()
    worker.left_s = 60.0
    assert watched_s(worker, 30.0) < 15, "nobody is there any more"


def test_it_takes_nobody_his_only_processor(ends: tuple[Worker, socket.socket], monkeypatch: pytest.MonkeyPatch):
    worker, _ = ends
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(Worker, "waiting", property(lambda _: pytest.fail("it looked")))
    worker.watch(30.0)
