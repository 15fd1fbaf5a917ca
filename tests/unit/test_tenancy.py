"""Evaluators that share a GPU: real processes and a real file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.turns.tenancy import Tenancy
from kernelgrove.errors import EvaluatorError

#: Begins an evaluation every few milliseconds, four at a time, and writes when one begins and ends.
EVALUATOR = """
import sys, threading, time
from pathlib import Path
from kernelgrove.engine.evaluator.turns.tenancy import Tenancy

tenancy = Tenancy(Path(sys.argv[1]), turn_s=0.05)
print("ready", flush=True)
sys.stdin.readline()
lock = threading.Lock()

def work():
    for _ in range(10):
        with tenancy.stay():
            begun = time.monotonic()
            time.sleep(0.02)
            with lock:
                print(begun, time.monotonic(), flush=True)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def evaluator(path: Path) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", EVALUATOR, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None and started.stdout.readline() == "ready\n"
    return started


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "gpu.lock"


def test_two_evaluators_never_run_at_once_and_neither_waits_for_the_other_to_end(path: Path):
    both = [evaluator(path), evaluator(path)]
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    spans = [[tuple(map(float, line.split())) for line in one.communicate(timeout=30)[0].splitlines()] for one in both]
    assert [len(found) for found in spans] == [40, 40]
    for begun, ended in spans[0]:
        assert all(ended <= b or e <= begun for b, e in spans[1])
    first, second = (sorted(found) for found in spans)
    assert min(first[-1][1], second[-1][1]) > max(first[0][0], second[0][0]), "each ran between the other's"
    assert any(b < e for b, _ in first[1:] for _, e in first[:1]), "evaluations of one run together"


def test_one_that_is_killed_gives_the_gpu_up(path: Path):
    here = Tenancy(path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "inside\n"
    entered = threading.Event()

    def enter() -> None:
        with here.stay():
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not entered.wait(0.3)
    other.kill()
    other.wait()
    assert entered.wait(5)


HOLDER = """
import sys, time
from pathlib import Path
from kernelgrove.engine.evaluator.turns.tenancy import Tenancy
with Tenancy(Path(sys.argv[1])).stay():
    print("inside", flush=True)
    time.sleep(60)
"""


def test_what_an_evaluation_waits_for_is_not_held_back(path: Path):
    """A baseline that an evaluation began runs though somebody waits and the turn is over. A new evaluation waits."""
    here, there = Tenancy(path, turn_s=0.0), Tenancy(path)
    order: list[str] = []
    waited: list[float] = []

    def elsewhere() -> None:
        with there.stay() as waited_s:
            order.append("there")
            waited.append(waited_s)

    def anew() -> None:
        with here.stay():
            order.append("anew")

    with here.stay():
        waiting = threading.Thread(target=elsewhere, daemon=True)
        waiting.start()
        time.sleep(0.1)  # it is the next now
        late = threading.Thread(target=anew, daemon=True)
        late.start()
        time.sleep(0.1)
        with here.stay(begun=True):
            order.append("begun")
    waiting.join(5)
    late.join(5)
    assert order == ["begun", "there", "anew"] and 0.15 < waited[0] < 5


def test_who_waits_too_long_is_told_why(path: Path):
    here, there = Tenancy(path), Tenancy(path, patience_s=0.1)
    with here.stay(), pytest.raises(EvaluatorError, match="another evaluator"), there.stay():
        pass


def test_where_no_file_can_be_made_nobody_waits(tmp_path: Path):
    nowhere = tmp_path / "missing" / "gpu.lock"
    with Tenancy(nowhere).stay(), Tenancy(nowhere).stay(), Tenancy(None).stay(), Tenancy(None).stay():
        pass
