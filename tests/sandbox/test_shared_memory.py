"""Memory that can be shared, or is pinned, is counted by no limit where address space cannot be limited: on a GPU."""

from __future__ import annotations

import os

import pytest

from kernelgrove.engine.evaluator import sandbox
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.protocol import Reply
from kernelgrove.engine.evaluator.wire.structure import pack
from kernelgrove.engine.evaluator.workers.handle import Order, Worker, WorkerDied
from kernelgrove.engine.evaluator.workers.standby import Standby
from kernelgrove.engine.gpus.specs import find

MOST = 128 << 20
HOARDER = """
import mmap, os, time

class ModelNew:
    def __init__(self):
        if {child} and os.fork():
            time.sleep({seconds})
            return
        held = mmap.mmap(-1, {size})
        for at in range(0, {size}, 4096):
            held[at] = 1
        time.sleep({seconds})

    def __call__(self):
        return 0
"""


@pytest.fixture(scope="module")
def nursery():
    policy = sandbox.Policy(
        read=sandbox.default_read_paths(),
        scratch="",
        gpu=True,
        uid=65534 if os.geteuid() == 0 else None,
        memory_bytes=MOST,
        cpu_s=60,
        file_bytes=1 << 20,
        open_files=256,
    )
    nursery = Standby("interpret", policy, {})
    yield nursery
    nursery.close()


def load(worker: Worker, code: str) -> None:
    arena = CpuArena.create(4096)
    try:
        fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
        blobs = [code.encode(), pack([], lambda _: False, []), arena.fd]
        worker.ask("load", Reply.LOADED, 20.0, fields, blobs)
    finally:
        arena.close()


@pytest.mark.parametrize("child", [False, True])
def test_who_holds_too_much_is_killed(nursery: Standby, child: bool):
    dies = pytest.raises(WorkerDied, match="shares or pins more than 128 MiB of the host's memory")
    with nursery.fork("cpu", find("H100").facts(), Order()) as worker, dies:
        load(worker, HOARDER.format(size=2 * MOST, child=child, seconds=15))


def test_who_holds_less_is_not(nursery: Standby):
    with nursery.fork("cpu", find("H100").facts(), Order()) as worker:
        load(worker, HOARDER.format(size=MOST // 2, child=False, seconds=2.5))


GROWING = """
import mmap, time

def take(size):
    held = mmap.mmap(-1, size)
    for at in range(0, size, 4096):
        held[at] = 1
    return held

class ModelNew:
    def __init__(self):
        half = take({size})
        time.sleep(1.2)
        more = take(2 * {size})
        time.sleep(0.5)
        more.close()

    def __call__(self):
        return 0
"""


def test_who_is_on_its_way_to_too_much_is_looked_at_more_often(nursery: Standby):
    """A driver pins gigabytes a second: what is looked at once a second has 34 GiB where 32 are allowed."""
    dies = pytest.raises(WorkerDied, match="shares or pins more than 128 MiB of the host's memory")
    with nursery.fork("cpu", find("H100").facts(), Order()) as worker, dies:
        load(worker, GROWING.format(size=MOST // 2))


@pytest.mark.usefixtures("own_users")
def test_a_user_is_free_when_its_worker_is_gone_not_when_its_judge_is(nursery: Standby):
    """The nursery of a judge that was killed kills all that is its workers' users', whose names were free again."""
    with nursery.fork("cpu", find("H100").facts(), Order()) as worker:
        assert worker._user is not None
        worker._user.release()  # as the kernel does for a judge that dies
        claimed = [sandbox.claim_user() for _ in range(3)]
        assert worker.uid not in [user.uid for user in claimed if user]
        uid = worker.uid
    again = [sandbox.claim_user() for _ in range(3)]
    assert uid in [user.uid for user in again if user]
    for user in (*claimed, *again):
        assert user is not None
        user.release()
