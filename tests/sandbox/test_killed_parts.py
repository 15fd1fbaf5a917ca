"""kill -9 of a nursery or a judge at the worst moment: nothing of a candidate lives on, nothing of it stays on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.sandbox import Home, children, descendants, sweep
from kernelgrove.errors import EvaluatorError
from kernelgrove.model import EvaluationRequest, Outcome, Problem

REFERENCE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return x * 2

def get_inputs():
    return [torch.randn(4, 8)]
"""
PROBLEM = Problem("double", REFERENCE, sizes={"full": {}, "small": {}})
#: Leaves a daemon with a copy of every descriptor behind, and does not end.
DAEMON = """
import os, signal, time

class ModelNew:
    def __call__(self, x):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        time.sleep(600)
"""


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pool():
    with Pool("cpu", parallel=1) as pool:
        pool.prepare(PROBLEM)
        yield pool


def judging(pool: Pool, threads: ThreadPoolExecutor):
    """The evaluation of DAEMON, once its daemon is there; its nursery's pid, and all that runs below that."""
    assert pool._process is not None
    judge = pool._process.pid
    before = descendants(judge)
    request = EvaluationRequest(pool.prepare(PROBLEM), DAEMON, trials=1, timing=False, timeout_s=60.0)
    future = threads.submit(pool.evaluate, request)
    wait_for(lambda: len(descendants(judge) - before) == 2)  # the worker and its daemon; what was between has ended
    (nursery,) = (pid for pid in children(judge) if descendants(pid))
    return future, nursery, descendants(nursery)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_daemon_does_not_outlive_its_nursery(pool: Pool):
    with ThreadPoolExecutor(1) as threads:
        future, nursery, below = judging(pool, threads)
        started = time.monotonic()
        os.kill(nursery, signal.SIGKILL)
        found = future.result(timeout=30)
        assert time.monotonic() - started < 10  # not the candidate's 60 s
    assert found.outcome is Outcome.WORKER_DIED and "its nursery died" in found.message
    assert all(map(is_gone, below))


def test_nothing_outlives_the_judge(pool: Pool):
    assert pool._process is not None
    judge = pool._process.pid
    with ThreadPoolExecutor(1) as threads:
        future, _, _ = judging(pool, threads)
        below = descendants(judge)
        cwds = [Path(f"/proc/{pid}/cwd").resolve() for pid in children(judge)]
        homes = [home for home in cwds if home.name.startswith("kernelgrove-scratch-")]
        assert len(homes) == 2 and all(home.exists() for home in homes)
        os.kill(judge, signal.SIGKILL)
        with pytest.raises(EvaluatorError, match="the judge died"):
            future.result(timeout=30)
    wait_for(lambda: all(map(is_gone, below)))
    wait_for(lambda: not any(home.exists() for home in homes))


def test_homes_of_the_dead_are_swept_and_those_of_the_living_kept():
    code = "from kernelgrove.engine.evaluator.sandbox import Home; import time\n"
    code += "home = Home(); print(home.path, flush=True); time.sleep(60)"
    dead, living = (subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2))
    paths = [Path(process.stdout.readline().strip()) for process in (dead, living) if process.stdout]
    (paths[0] / "left").mkdir()
    dead.kill()
    dead.wait()
    own, link = Home(), Path(tempfile.gettempdir(), f"kernelgrove-scratch-{os.getpid()}-link")
    link.symlink_to(own.path)
    try:
        sweep()
        assert not paths[0].exists() and paths[1].exists() and own.path.exists()
    finally:
        link.unlink()
        own.remove()
        living.kill()
        living.wait()
    sweep()
    assert not paths[1].exists() and not own.path.exists()
