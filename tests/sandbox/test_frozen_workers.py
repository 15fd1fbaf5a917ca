"""While one worker is timed the others stand still, to the last thread of the last process that they started."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kernelgrove.engine.evaluator.cpu_bench import CpuBench
from kernelgrove.engine.evaluator.inside.nursery import Nursery as OfWorkers
from kernelgrove.engine.evaluator.wire import protocol
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.protocol import Reply, receive_with_fds
from kernelgrove.engine.evaluator.wire.structure import pack
from kernelgrove.engine.evaluator.workers.handle import Order, Worker, WorkerDied
from kernelgrove.engine.evaluator.workers.nurseries import Nursery
from kernelgrove.engine.gpus.specs import find

#: A thread, a child and a daemon that count in files of their own, as fast as they can; the child wakes the others up.
BUSY = """
import os, signal, threading

def count(name, wake=()):
    number, file = 0, os.open(name, os.O_WRONLY | os.O_CREAT)
    while True:
        number += 1
        os.pwrite(file, b"%020d" % number, 0)
        for pid in wake:
            os.kill(pid, signal.SIGCONT)

class ModelNew:
    def __init__(self):
        threading.Thread(target=count, args=("thread",), daemon=True).start()
        me = os.getpid()
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
                count("daemon")
            count("child", [me, os.getpid()])

    def __call__(self):
        return 0
"""
QUIET = "class ModelNew:\n    def __call__(self):\n        return 0\n"


@pytest.fixture(scope="module")
def bench() -> Iterator[CpuBench]:
    bench = CpuBench(find("H100").facts(), 2, False)
    yield bench
    bench.close()


@pytest.fixture
def arena() -> Iterator[CpuArena]:
    arena = CpuArena.create(4096)
    yield arena
    arena.close()


def load(worker: Worker, arena: CpuArena, code: str) -> Worker:
    fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
    worker.distrust()
    worker.ask("load", Reply.LOADED, 30.0, fields, [code.encode(), pack([], lambda _: False, []), arena.fd])
    return worker


def counts(worker: Worker) -> list[str]:
    return [(Path(worker.scratch) / name).read_text() for name in ("thread", "child", "daemon")]


def counting(worker: Worker, before: list[str]) -> bool:
    """Whether all three go on."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if all(now and now != then for now, then in zip(counts(worker), before, strict=True)):
            return True
        time.sleep(0.01)
    return False


def test_others_stand_still_and_go_on_afterwards(bench: CpuBench, arena: CpuArena):
    with bench.fork(Order()) as busy, bench.fork(Order()) as timed:
        load(busy, arena, BUSY)
        while len(list(Path(busy.scratch).glob("*"))) < 4:
            time.sleep(0.01)
        with bench.interpreting.frozen(keep=[timed]) as still:
            before = counts(busy)
            load(timed, arena, QUIET)
            time.sleep(0.2)
            assert still and counts(busy) == before
        assert counting(busy, before)
        with bench.interpreting.frozen(keep=[busy]):
            assert counting(busy, counts(busy))
            waiting = threading.Thread(target=load, args=(timed, arena, QUIET))
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_nursery_that_dies_meanwhile_is_replaced(bench: CpuBench, arena: CpuArena):
    with load(bench.fork(Order()), arena, QUIET) as stopped:
        with bench.interpreting.frozen():
            bench.interpreting._nursery._process.kill()
        with pytest.raises(WorkerDied, match="its nursery died"):
            load(stopped, arena, QUIET)
    with bench.fork(Order()) as fresh:
        load(fresh, arena, QUIET)


def test_a_nursery_that_dies_in_the_middle_of_a_fork_is_replaced(bench: CpuBench, monkeypatch: pytest.MonkeyPatch):
    fork, died = Nursery.fork, []

    def dying(nursery: Nursery, *args: Any) -> Worker:
        if not died:
            died.append(nursery)
            nursery._process.kill()
        return fork(nursery, *args)

    monkeypatch.setattr(Nursery, "fork", dying)
    with bench.interpreting.fork("cpu", bench.facts, Order()) as worker:
        assert died and worker.waiting


LATE = """
import os, signal, socket, time
from types import SimpleNamespace
from kernelgrove.engine.evaluator import sandbox
from kernelgrove.engine.evaluator.inside import nursery
from kernelgrove.engine.evaluator.wire.protocol import receive_with_fds

answers = iter([False, True])
def killing(pid, uid):
    return next(answers)
    yield

sandbox.killing = killing
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
made = nursery.Nursery(theirs)
pid = os.fork()
if pid == 0:
    time.sleep(60)
made.workers[pid] = SimpleNamespace(uid=None)
made._kill(pid)
made._reap()
assert pid in made.workers
os.kill(pid, signal.SIGKILL)
while not nursery._has_ended(pid):
    time.sleep(0.01)
made._reap()
print(receive_with_fds(ours)[0]["clean"])
"""


def test_what_outlived_its_killing_is_looked_for_again_when_it_ends():
    """Its user and folder would stay its own for good otherwise."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True", done.stderr[-2000:]


def test_what_dies_late_leaves_nothing_behind_and_its_number_is_anothers(
    bench: CpuBench, monkeypatch: pytest.MonkeyPatch
):
    """A driver gave a worker's memory back 14 s after it was killed, once; 15 s are waited for."""
    nursery = bench.interpreting._nursery
    with monkeypatch.context() as patch:
        patch.setattr("kernelgrove.engine.evaluator.workers.handle.KILL_LIMIT_S", 0.0)
        worker = bench.fork(Order())
        os.kill(nursery._process.pid, signal.SIGSTOP)
        try:
            worker.close()
            assert Path(worker.scratch).exists(), "it may still be at work there"
        finally:
            os.kill(nursery._process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 20
    while Path(worker.scratch).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(worker.scratch).exists()
    while worker._user is not None and worker._user.fileno() != -1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker._user is None or worker._user.fileno() == -1, "nobody else could ever have its user"
    assert worker.pid not in nursery._exited, "whoever got its number would seem to have ended"
    assert worker.pid not in nursery._users and not nursery._late
    with monkeypatch.context() as patch:
        patch.setattr("kernelgrove.engine.evaluator.workers.handle.KILL_LIMIT_S", 0.0)
        worker.close()  # again: by now another may have its number
    assert not nursery._late


def test_a_number_in_use_for_a_worker_that_has_ended_is_given_to_no_other(
    bench: CpuBench, monkeypatch: pytest.MonkeyPatch
):
    """It ended by itself, and nobody has closed it yet: that would kill whoever had its number."""
    nursery = bench.interpreting._nursery
    with bench.fork(Order()) as ended:
        os.kill(ended.pid, signal.SIGKILL)
        assert nursery.exit_words(ended.pid, 10.0) == "killed by SIGKILL"
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(ended.pid - 1))
        except OSError:
            pytest.skip("the next number cannot be chosen here")
        with bench.fork(Order()) as other:
            assert other.pid != ended.pid and nursery.exit_words(ended.pid, 0.0) == "killed by SIGKILL"
            ended.close()
            assert other.waiting


def test_a_worker_that_cannot_be_forked_ends_nothing_else(bench: CpuBench, monkeypatch: pytest.MonkeyPatch):
    """There are too many processes: a neighbour's doing, perhaps. The nursery says so, and goes on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nursery, (reader, writer) = OfWorkers(theirs), os.pipe()

    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    policy = {**asdict(bench.interpreting._nursery._policy), "read": [], "scratch": "/nowhere"}
    message = {"id": 7, "mode": "interpret", "device": "cpu", "policy": policy, "facts": {}}
    nursery._fork({**message, "precision": "default", "one_queue": False}, [writer], (reader, reader))
    event, _ = receive_with_fds(ours)
    assert event == {"event": "forked", "id": 7, "pid": 0, "why": "[Errno 11] Resource temporarily unavailable"}
    assert not nursery.workers and os.read(reader, 1) == b"", "the worker's end of its socket is closed"
    for end in (ours, theirs):
        end.close()
    os.close(reader)


def test_a_worker_that_is_killed_before_it_was_asked_anything_is_replaced(
    bench: CpuBench, monkeypatch: pytest.MonkeyPatch
):
    """As the kernel kills one when memory runs out: workers go first, and whoever judges it did nothing wrong."""
    answer, killed = Worker.answer, []

    def dying(worker: Worker, expected: Reply, *limits: Any, **options: Any) -> dict[str, Any]:
        if expected is Reply.READY and not killed:
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        return answer(worker, expected, *limits, **options)

    bench.interpreting._nursery.wait_ready()
    monkeypatch.setattr(Worker, "answer", dying)
    with bench.fork(Order()) as worker:
        assert killed and worker.pid != killed[0] and worker.waiting


def test_all_candidates_are_ended_where_nobody_knows_whose_doing_something_is(bench: CpuBench):
    with bench.fork(Order()) as candidate, bench.fork(Order()) as trusted:
        candidate.distrust()
        assert bench.interpreting.expel("somebody kept the GPU busy")
        words = bench.interpreting._nursery.exit_words(candidate.pid, 0.0)
        assert words == "killed by the evaluator: somebody kept the GPU busy"
        assert trusted.waiting and not candidate.waiting


def test_descriptors_of_others_that_are_on_their_way_are_waited_for(monkeypatch: pytest.MonkeyPatch):
    """Where workers run as the judge's own user, one can have so many in its own sockets that nobody can send any."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send, refused = protocol.send_with_fds, []

    def crowded(*arguments: Any) -> None:
        if len(refused) < 3:
            refused.append(1)
            raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")
        send(*arguments)

    monkeypatch.setattr(protocol, "send_with_fds", crowded)
    protocol.send_patiently(ours, {"op": "load"})
    assert len(refused) == 3 and receive_with_fds(theirs)[0] == {"op": "load"}
    monkeypatch.setattr(protocol, "_PATIENCE_S", 0.0)
    refused.clear()
    with pytest.raises(OSError, match="Too many references"):
        protocol.send_patiently(ours, {"op": "load"})
    ours.close(), theirs.close()
