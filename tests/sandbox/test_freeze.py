"""Stopping candidates while another is timed: whole trees, nested, and not at the cost of their time limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.cpu_bench import CpuBench
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.protocol import Reply
from kernelgrove.engine.evaluator.wire.structure import pack
from kernelgrove.engine.evaluator.workers.handle import Order, Worker, WorkerTimeout
from kernelgrove.engine.gpus.specs import find

FORKS = b"""
import os, time

if os.fork() == 0:
    os.setsid()
    while True:
        time.sleep(0.001)


class ModelNew:
    def __call__(self):
        return 0
"""
SLOW = b"import time\ntime.sleep(0.6)\n\n\nclass ModelNew:\n    pass\n"


@pytest.fixture(scope="module")
def bench() -> Iterator[CpuBench]:
    bench = CpuBench(find("H100").facts(), 1, False)
    yield bench
    bench.close()


@pytest.fixture
def worker(bench: CpuBench) -> Iterator[Worker]:
    with bench.fork(Order()) as worker:
        yield worker


def load(worker: Worker, code: bytes, limit_s: float = 60.0) -> None:
    arena = CpuArena.create(4096)
    fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
    worker.distrust()
    worker.ask("load", Reply.LOADED, limit_s, fields, [code, pack([], lambda _: False, []), arena.fd])


def states(worker: Worker) -> list[str]:
    """Of the worker and what it forked: ``T`` is stopped."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/stat").read_text() for pid in (worker.pid, *children)]
    return [text[text.rindex(")") + 2] for text in texts]


def test_a_whole_tree_stands_still_and_goes_on(bench: CpuBench, worker: Worker):
    load(worker, FORKS)
    assert len(states(worker)) == 2
    with bench.interpreting.frozen() as still:
        assert still and states(worker) == ["T", "T"]
        with bench.interpreting.frozen() as inner:
            assert inner
        assert states(worker) == ["T", "T"], "the inner block let it go"
    assert "T" not in states(worker)


def test_who_is_kept_runs_and_who_is_trusted_too(bench: CpuBench, worker: Worker):
    load(worker, FORKS)
    with bench.interpreting.frozen([worker]) as still, bench.fork(Order()) as trusted:
        assert still and "T" not in states(worker) and "T" not in states(trusted)


def test_a_stopped_worker_can_be_ended(bench: CpuBench):
    worker = bench.fork(Order())
    load(worker, FORKS)
    with bench.interpreting.frozen():
        started = time.monotonic()
        worker.close()
        assert time.monotonic() - started < 4
    assert not Path(f"/proc/{worker.pid}").exists()


def test_standing_still_does_not_count_against_a_limit(bench: CpuBench, worker: Worker):
    arena = CpuArena.create(4096)
    fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
    worker.distrust()
    worker.send("load", fields, [SLOW, pack([], lambda _: False, []), arena.fd])
    with bench.interpreting.frozen():
        time.sleep(1.2)
    worker.answer(Reply.LOADED, 1.0)  # 0.6 s of its own, though 1.8 s have passed


def test_a_limit_holds_all_the_same(bench: CpuBench, worker: Worker):
    with pytest.raises(WorkerTimeout):
        load(worker, SLOW.replace(b"0.6", b"60"), limit_s=0.3)
