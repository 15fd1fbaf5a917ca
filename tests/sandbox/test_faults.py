"""Whatever a candidate breaks, it breaks for itself: the next honest one is judged rightly, and nothing is left behind.

Faults of candidates go through one pool, several at a time, each followed by an honest candidate: that one, and all
who were judged beside it, must not notice. What kills judges and nurseries has pools of its own. ``tests/contract``
has the plain ones (an endless loop, a segmentation fault, an exit, memory without end, judges killed while idle).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from corpus import PROBLEMS, honest
from faulty import FAULTS, forward

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.sandbox import descendants
from kernelgrove.errors import EnvironmentLacks, EvaluatorError
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Outcome
from kernelgrove.problems.problem import load

ROOT = os.geteuid() == 0
HONEST = next(entry for entry in honest() if entry.path.stem == "split_sum_atomic")
#: What a process on the device takes of its memory before it has done anything, MiB.
DRIVER_MIB = 700


@dataclass
class Bench:
    device: str
    pool: Pool
    instance: Instance
    memory_mib: int = 0
    held: int = 0

    def judge(self, code: str, timeout_s: float = 60.0) -> EvaluationResult:
        request = EvaluationRequest(self.instance, code, trials=2, timing=False, timeout_s=timeout_s)
        return self.pool.evaluate(request)


@pytest.fixture(scope="module")
def bench(pool: Pool, device: str) -> Bench:
    instance = pool.prepare(load(str(PROBLEMS / "row_sum.py")))
    made = Bench(device, pool, instance)
    assert made.judge(HONEST.code).outcome is Outcome.OK
    made.memory_mib, made.held = device_memory_mib() if device != "cpu" else 0, held(pool)
    return made


@pytest.fixture(scope="module")
def found(bench: Bench) -> dict[str, tuple[EvaluationResult, EvaluationResult]]:
    """Of each fault that shows on this device: what came of it, and of the honest candidate after it."""
    here = [name for name, fault in FAULTS.items() if bench.device.startswith(fault.only)]
    here.sort(key=lambda name: -FAULTS[name].timeout_s if "timeout" in FAULTS[name].outcomes else 0)

    def judge(name: str) -> tuple[EvaluationResult, EvaluationResult]:
        return bench.judge(FAULTS[name].code, FAULTS[name].timeout_s), bench.judge(HONEST.code)

    with ThreadPoolExecutor(bench.pool.parallel) as threads:
        return dict(zip(here, threads.map(judge, here), strict=True))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_its_own(found: dict[str, tuple[EvaluationResult, EvaluationResult]], name: str) -> None:
    if name not in found:
        pytest.skip(f"shows on {FAULTS[name].only} alone")
    result, after = found[name]
    assert result.outcome.value in FAULTS[name].outcomes, f"{result.outcome.value}: {result.message}"
    if result.outcome is not Outcome.OK:
        assert FAULTS[name].says in result.message
    assert after.outcome is Outcome.OK, after.message


def test_nothing_is_left_of_the_faults(bench: Bench, found: dict[str, object]) -> None:
    assert found and bench.judge(HONEST.code).outcome is Outcome.OK
    nothing_left(bench)


def nothing_left(bench: Bench) -> None:
    """No process below the judge but its nurseries, no worker's folder, no device memory; on a GPU no more of them than
    before, where workers in waiting come and go and baselines stay."""
    more = 0 if bench.device == "cpu" else bench.held + 2 * bench.pool.parallel
    wait_for(lambda: held(bench.pool) <= more)
    if bench.device != "cpu":
        wait_for(lambda: device_memory_mib() <= bench.memory_mib + DRIVER_MIB * bench.pool.parallel)


def held(pool: Pool) -> int:
    """Processes below the judge and their folders, the nurseries' own aside."""
    judge = judge_of(pool)
    nurseries = {int(pid) for pid in Path(f"/proc/{judge}/task/{judge}/children").read_text().split()}
    homes = [Path(f"/proc/{pid}/cwd").resolve() for pid in nurseries]
    folders = [path for home in homes for path in home.glob("w*") if path.is_dir()]
    return len([pid for pid in descendants(judge) - nurseries if lives(pid)]) + len(folders)


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "something is left behind"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:  # gone meanwhile: in no session of a daemon's
        return pid


def judge_of(pool: Pool) -> int:
    assert pool._process is not None and pool._process.poll() is None, "the judge is gone"
    return pool._process.pid


def device_memory_mib() -> int:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


# ------------------------------------------------------------------------------------ judges and nurseries that die

#: Leaves a daemon that nothing but a search for it finds, then waits to be killed.
DAEMON = forward(
    """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            while True:
                time.sleep(1)
        os._exit(0)
    os.wait()
    time.sleep(60)
    """
)


def owned(home: Path) -> bool:
    """Whether somebody holds the lock of *home*."""
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass
class Apart:
    """A pool of its own with a temporary folder of its own: 64 MiB of a file system where that can be mounted."""

    pool: Pool
    instance: Instance
    folder: Path
    small: bool

    @property
    def nurseries(self) -> set[int]:
        judge = judge_of(self.pool)
        return {int(pid) for pid in Path(f"/proc/{judge}/task/{judge}/children").read_text().split()}

    def judge(self, code: str, timeout_s: float = 20.0) -> EvaluationResult:
        return self.pool.evaluate(EvaluationRequest(self.instance, code, trials=1, timing=False, timeout_s=timeout_s))

    def honest_again(self) -> EvaluationResult:
        """An honest candidate, after at most one answer that the judge is gone."""
        try:
            return self.judge(HONEST.code)
        except EvaluatorError as error:
            assert "judge" in str(error)
            return self.judge(HONEST.code)

    def strays(self) -> list[str]:
        """What lies in the temporary folder and belongs to nobody who lives."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith("kernelgrove-") and not owned(path)]


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(folder)]
    small = ROOT and subprocess.run(mount, capture_output=True).returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        with Pool("cpu", parallel=2) as pool:
            yield Apart(pool, pool.prepare(load(str(PROBLEMS / "row_sum.py"))), folder, small)
    if small:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_full_disk(apart: Apart) -> None:
    """A candidate that fills the disk fails; the next one finds it empty again."""
    if not apart.small:
        pytest.skip("mounting a small file system needs root")
    fills = forward(
        """
        try:
            with open("large", "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError as error:
            full = error.errno == 28
        assert full
        raise RuntimeError("the disk was full")
        """
    )
    for _ in range(2):
        found = apart.judge(fills)
        assert found.outcome is Outcome.RUNTIME_ERROR and "disk was full" in found.message
        after = apart.judge(HONEST.code)
        assert after.outcome is Outcome.OK, after.message
    assert not apart.strays()


class Scene:
    """A worker of *apart* in which a candidate has just left a daemon. ``end`` says what the evaluation came to."""

    def __init__(self, apart: Apart) -> None:
        self.apart = apart
        self.judge, self.nurseries = judge_of(apart.pool), apart.nurseries
        self.answer: list[Any] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        wait_for(self._daemon)
        self.untrusted = self._untrusted()

    def _daemon(self) -> bool:
        """Whether the daemon is there and what forked it, the leader of its session, is not. A worker that is being
        forked is in its nursery's session: it has run nothing, and would be made again."""
        found = self._untrusted()
        return any(lives(pid) and session_of(pid) not in found | self.nurseries for pid in found)

    def _untrusted(self) -> set[int]:
        return descendants(self.judge) - self.nurseries

    def _ask(self) -> None:
        try:
            self.answer.append(self.apart.judge(DAEMON))
        except EvaluatorError as error:
            self.answer.append(error)
        self.answered = time.monotonic()

    def end(self) -> Any:
        self._thread.join(60)
        assert self.answer, "the evaluation never ended"
        after = self.apart.honest_again()
        assert after.outcome is Outcome.OK, after.message
        left = {pid for pid in self.untrusted if lives(pid)}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        strays = self.apart.strays()
        for name in strays:
            shutil.rmtree(self.apart.folder / name, ignore_errors=True)
        assert not left, "untrusted processes outlived their nursery"
        assert not strays, f"left in the temporary folder: {strays}"
        return self.answer[0]


def test_a_nursery_killed_with_a_daemon_below_it(apart: Apart) -> None:
    scene = Scene(apart)
    begun = time.monotonic()
    for pid in scene.nurseries:
        os.kill(pid, signal.SIGKILL)
    answer = scene.end()
    assert scene.answered - begun < 18, "it waited for its time limit instead of noticing"
    assert isinstance(answer, EvaluationResult) and answer.outcome is Outcome.WORKER_DIED


def test_a_judge_killed_with_a_daemon_below_it(apart: Apart) -> None:
    scene = Scene(apart)
    os.kill(scene.judge, signal.SIGKILL)
    assert isinstance(scene.end(), EvaluatorError)


# ------------------------------------------------------------------------------------------------ the machine itself


def test_a_driver_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi still lists a GPU, but CUDA does not answer: said in one sentence, soon, and nothing is left."""
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho '0, NVIDIA H200, GPU-0, 143771, 580.00, 9.0'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = set(Path(tempfile.gettempdir()).glob("kernelgrove-*"))
    with pytest.raises((EnvironmentLacks, EvaluatorError)) as refused:
        Pool("cuda:0").device()
    assert refused.value.cause and "Traceback" not in str(refused.value)
    mine = set(Path(tempfile.gettempdir()).glob("kernelgrove-*")) - before
    assert not [folder for folder in mine if folder.stat().st_uid == os.geteuid() and not in_use(folder)]


def in_use(folder: Path) -> bool:
    """Whether some process works in *folder*: another pool's, then."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").resolve() == folder:
                    return True
            except OSError:
                continue
    return False
