"""Stopping candidates while another is timed: whole trees, nested, and not at the cost of their time limits."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelgrove.engine.evaluator.cpu_bench import CpuBench
from kernelgrove.engine.evaluator.sandbox import processes
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
#: Counts in a file: in a child whose first thread has ended, and in a process that a timer wakes again and again.
COUNTS = """
import _thread, ctypes, os, signal, time

libc = ctypes.CDLL(None)


def count():
    file = os.open("counted", os.O_WRONLY | os.O_CREAT)
    number = 0
    while True:
        number += 1
        os.pwrite(file, b"%020d" % number, 0)
        again()


class ModelNew:
    def __call__(self):
        return 0
"""
LEADERLESS = (
    COUNTS
    + """
def again():
    pass

if os.fork() == 0:
    _thread.start_new_thread(count, ())
    time.sleep(0.1)
    libc.syscall(60, 0)
"""
)
WOKEN = (
    COUNTS
    + """
event = (ctypes.c_int * 16)(0, 0, signal.SIGCONT)  # struct sigevent: no value, this signal, SIGEV_SIGNAL
timer = ctypes.c_void_p()
assert libc.timer_create(1, event, ctypes.byref(timer)) == 0
signal.signal(signal.SIGCONT, lambda *_: None)

def again():
    libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 20_000_000), None)

_thread.start_new_thread(count, ())
"""
)
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


def counted(worker: Worker) -> int:
    file, deadline = Path(worker.scratch, "counted"), time.monotonic() + 10
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(file.read_text())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls by number")
def test_a_process_whose_first_thread_has_ended_stands_still(bench: CpuBench, worker: Worker):
    load(worker, LEADERLESS.encode())
    counted(worker)
    time.sleep(0.2)  # for that thread to end
    with bench.interpreting.frozen() as still:
        before = counted(worker)
        time.sleep(0.1)
        assert still and counted(worker) == before
    time.sleep(0.1)
    assert counted(worker) > before


def test_who_has_himself_woken_is_killed(bench: CpuBench):
    """Whoever was timed meanwhile was not alone."""
    with bench.fork(Order()) as worker:
        load(worker, WOKEN.encode())
        counted(worker)
        with bench.interpreting.frozen():
            time.sleep(0.3)
        words = bench.interpreting._nursery.exit_words(worker.pid, 10.0) or ""
        assert re.search(r"went on for [\d.e+-]+ ms while it was to stand still", words), words


def test_who_is_killed_while_he_stands_still_did_not_go_on(bench: CpuBench):
    with bench.fork(Order()) as worker:
        load(worker, b"held = bytearray(1 << 28)\n\n\nclass ModelNew:\n    pass\n")
        with bench.interpreting.frozen() as still:
            assert still
            os.kill(worker.pid, signal.SIGKILL)
        assert bench.interpreting._nursery.exit_words(worker.pid, 10.0) == "killed by SIGKILL"


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


def test_a_thread_that_is_killed_while_it_is_looked_at_did_not_go_on(monkeypatch: pytest.MonkeyPatch):
    """Between two looks, at its state and at its time, it had all the time that its end took."""
    me, task = os.getpid(), str(threading.get_native_id())
    monkeypatch.setattr(processes, "_tasks", lambda pid: [task])
    monkeypatch.setattr(processes, "_below", lambda roots: set())
    looks = iter([False, True])
    monkeypatch.setattr(processes, "_stat", lambda *_: SimpleNamespace(state="S", exiting=next(looks)))
    assert processes.thread_ns([me]) == {}
    monkeypatch.setattr(processes, "_stat", lambda *_: SimpleNamespace(state="S", exiting=False))
    assert processes.thread_ns([me]).keys() == {(me, int(task))}


def test_what_a_thread_had_before_it_left_its_processor_is_no_time_since(monkeypatch: pytest.MonkeyPatch):
    """It is called stopped a little earlier, and honest workers were killed for what was added then."""
    looks = iter([7_000_000, 8_050_000, 8_050_000])
    monkeypatch.setattr(processes, "thread_ns", lambda roots, stopped: {(roots[0], 1): next(looks)})
    assert processes.settled_ns([5]) == {5: {(5, 1): 8_050_000}} and next(looks, None) is None


def test_who_never_comes_to_rest_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """He is found out when the others go on."""
    looks = itertools.count()
    monkeypatch.setattr(processes, "thread_ns", lambda roots, stopped: {(roots[0], 1): next(looks)})
    started = time.monotonic()
    (had,) = processes.settled_ns([5])[5].values()
    assert had > 3 and time.monotonic() - started < 10
    assert processes.settled_ns([]) == {}
