"""Workers that hide, multiply or outlive their parents are found and killed. Each scene is a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_the_sandbox import copy_for_others

import kernelgrove
from kernelgrove.engine.evaluator.sandbox import (
    claim_user,
    clean_environment,
    kill_tree,
    processes,
    processes_of,
    signal_name,
)

ROOT = os.geteuid() == 0
NOBODY = 65534

#: What every scene begins with. ``worker(body, ...)`` forks one that enters the sandbox and then does *body*;
#: ``grown(n)`` waits until n descendants are there.
PROLOGUE = """
import json, os, signal, sys, threading, time
sys.path[:] = json.loads(sys.argv[1])
facts = json.loads(sys.argv[2])
from kernelgrove.engine.evaluator import sandbox

def policy(uid=None, processes=48):
    return sandbox.Policy(read=sandbox.default_read_paths(), scratch=facts["scratch"], gpu=False, uid=uid,
        memory_bytes=1 << 30, cpu_s=30, file_bytes=1 << 20, open_files=64, processes=processes)

def worker(body, **changes):
    rules, parent, (reading, writing) = policy(**changes), os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sandbox.enter(rules, keep_fds=[writing], parent=parent, log_fd=2)
            os.write(writing, b"in")
            body()
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 2) == b"in"
    return pid

def grown(count, of=None):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if len(sandbox.descendants(of or os.getpid())) >= count:
            return
        time.sleep(0.005)
    raise SystemExit(f"only {len(sandbox.descendants(of or os.getpid()))} of {count} descendants came")

def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "gone"

def sleep():
    time.sleep(60)

def daemon(then=sleep):
    # forked twice, in a session of its own, deaf to every signal that can be ignored
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            then()
        os._exit(0)
    os.waitpid(middle, 0)
"""


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Run a scene under PROLOGUE in a clean process; what it printed, as JSON. Leaves nothing behind."""
    started: list[subprocess.Popen[str]] = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(scene: str, wait: bool = True, other: tuple[Path, str, list[str]] | None = None, **facts: Any) -> Any:
        folder, python, search = other or (scratch, sys.executable, sys.path)
        code = PROLOGUE + textwrap.dedent(scene)
        told = json.dumps({"scratch": str(folder), **facts})
        process = subprocess.Popen(
            [python, "-P", "-c", code, json.dumps(search), told],
            env=clean_environment(str(folder)),
            cwd=folder,
            user=NOBODY if other else None,
            group=NOBODY if other else None,
            extra_groups=[] if other else None,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        if not wait:
            return process, json.loads(process.stdout.readline())
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return json.loads(output)

    yield run
    for process in started:
        if process.poll() is None:
            kill_tree(process.pid)
            process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def nobody() -> Iterator[tuple[Path, str, list[str]] | None]:
    """A folder, an interpreter and a search path for an ordinary user; None where these tests run as one."""
    if not ROOT:
        yield None
        return
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    copied = copy_for_others(Path(kernelgrove.__file__).parent, folder)
    (folder / "scratch").mkdir()
    os.chown(folder / "scratch", NOBODY, NOBODY)
    if copied is None:
        pytest.skip("no system interpreter that another user can read and that is 3.11 or newer")
    yield (folder / "scratch", *copied)
    shutil.rmtree(folder)


@pytest.fixture
def private_uid() -> Iterator[int]:
    user = claim_user()
    if user is None:
        pytest.skip("private users need root")
    yield user.uid
    user.release()


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_a_daemon_of_a_living_worker_is_below_it(play: Callable[..., Any]) -> None:
    result = play("""
        sandbox.become_subreaper()
        pid = worker(lambda: (daemon(), sleep()))
        grown(2)
        time.sleep(0.1)
        below = sandbox.descendants(pid)
        clean = sandbox.kill_tree(pid)
        states = [state(member) for member in below]
        status = os.waitpid(pid, 0)[1]
        reaped = sandbox.reap_orphans(set())
        left = sorted(sandbox.descendants(os.getpid()))
        print(json.dumps([len(below), clean, states, sandbox.signal_name(status), left]))
    """)
    count, clean, states, words, left = result
    assert count == 1 and clean and set(states) <= {"Z", "gone"}
    assert words == "killed by SIGKILL" and left == []


def test_orphans_of_a_dead_worker_are_reaped_and_others_kept(play: Callable[..., Any]) -> None:
    result = play("""
        sandbox.become_subreaper()
        kept = worker(sleep)
        pid = worker(lambda: (daemon(lambda: (daemon(), sleep())), time.sleep(0.3)))
        grown(4)
        status = os.waitpid(pid, 0)[1]
        reaped = sandbox.reap_orphans({kept})
        rest = sandbox.descendants(os.getpid())
        print(json.dumps([sandbox.signal_name(status), len(reaped), rest == {kept}, state(kept)]))
        os.kill(kept, signal.SIGKILL)
    """)
    assert result == ["exited with code 0", 2, True, "S"]


BOMB = """
    def bomb():
        while True:
            try:
                os.fork()
            except OSError:
                pass
    sandbox.become_subreaper()
    pid = worker(bomb, uid=facts["uid"])
    grown(30)
    time.sleep(0.2)
    most = len(sandbox.descendants(os.getpid()))
    begun = time.monotonic()
    clean = sandbox.kill_tree(pid, facts["uid"])
    took = time.monotonic() - begun
    os.waitpid(pid, 0)
    sandbox.reap_orphans(set())
    print(json.dumps([most, clean, took, len(sandbox.descendants(os.getpid()))]))
"""


def test_a_fork_bomb_of_a_private_user_is_bounded_and_killed(play: Callable[..., Any], private_uid: int) -> None:
    most, clean, took, left = play(BOMB, uid=private_uid)
    assert most <= 48 and clean and took < 8 and left == 0
    assert processes_of(private_uid) == set()


def test_a_fork_bomb_of_an_ordinary_user_is_bounded_and_killed(play: Callable[..., Any], nobody: Any) -> None:
    most, clean, took, left = play(BOMB, other=nobody, uid=None)
    # 48 and the nursery: it counts among the user's others, though not in the worker's own user namespace.
    assert most <= 49 and clean and took < 8 and left == 0


def test_processes_that_fork_and_exit_without_end_are_caught(play: Callable[..., Any], private_uid: int) -> None:
    result = play(
        """
        def comet():
            os.setsid()
            while True:
                if os.fork():
                    os._exit(0)
        def start():
            if os.fork() == 0:
                comet()
            sleep()
        sandbox.become_subreaper()
        pid = worker(start, uid=facts["uid"])
        grown(2)
        time.sleep(0.1)
        clean = sandbox.kill_tree(pid, facts["uid"])
        os.waitpid(pid, 0)
        sandbox.reap_orphans(set())
        print(json.dumps([clean, len(sandbox.descendants(os.getpid()))]))
        """,
        uid=private_uid,
    )
    assert result == [True, 0] and processes_of(private_uid) == set()


def test_stopped_and_half_dead_processes_are_killed(play: Callable[..., Any]) -> None:
    """SIGSTOP, and a first thread that has ended while another runs on: its state reads like a zombie's."""
    result = play("""
        import ctypes
        def half_dead():
            threading.Thread(target=sleep, daemon=True).start()
            ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit, of this thread alone
        def body():
            if os.fork() == 0:
                half_dead()
            if os.fork() == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            sleep()
        sandbox.become_subreaper()
        pid = worker(body)
        grown(3)
        end = time.monotonic() + 10
        while sorted(map(state, sandbox.descendants(pid))) != ["T", "Z"] and time.monotonic() < end:
            time.sleep(0.01)
        before = sorted(map(state, sandbox.descendants(pid)))
        clean = sandbox.kill_tree(pid)
        os.waitpid(pid, 0)
        reaped = sandbox.reap_orphans(set())
        print(json.dumps([before, clean, len(sandbox.descendants(os.getpid()))]))
    """)
    assert result == [["T", "Z"], True, 0]


def test_a_worker_dies_when_its_parent_is_killed(play: Callable[..., Any]) -> None:
    parent, worker = play(
        """
        print(json.dumps(worker(sleep)), flush=True)
        sleep()
        """,
        wait=False,
    )
    parent.send_signal(signal.SIGKILL)
    assert wait_until_gone(worker)


def test_a_worker_whose_parent_is_gone_already_does_not_start(play: Callable[..., Any], tmp_path: Path) -> None:
    result = play("""
        sandbox.become_subreaper()
        reading, writing = os.pipe()
        rules = policy()
        middle = os.fork()
        if middle == 0:
            parent = os.getpid()
            if os.fork() == 0:
                while os.getppid() == parent:
                    time.sleep(0.01)
                sandbox.enter(rules, keep_fds=[writing], parent=parent, log_fd=2)
                os.write(writing, b"entered")
                os._exit(0)
            os._exit(0)
        os.waitpid(middle, 0)
        os.close(writing)
        said = os.read(reading, 20).decode()
        pid, status = os.wait()
        print(json.dumps([said, sandbox.signal_name(status)]))
    """)
    assert result == ["", "killed by SIGKILL"]


@pytest.mark.parametrize("pid", [0, 1, -1, "own"])
def test_what_must_never_be_killed_is_refused(pid: int | str) -> None:
    with pytest.raises(ValueError, match="refusing"):
        kill_tree(os.getpid() if pid == "own" else int(pid))


def test_everything_of_ones_own_user_is_never_killed() -> None:
    with pytest.raises(ValueError, match="refusing"):
        kill_tree(2**22 - 1, uid=os.getuid())


def test_a_process_that_is_gone_is_killed_already() -> None:
    done = subprocess.Popen(["/bin/true"])
    done.wait()
    assert kill_tree(done.pid)


@pytest.mark.usefixtures("own_users")
def test_private_users_are_told_apart_and_given_back() -> None:
    first, second = claim_user(), claim_user()
    assert first is not None and second is not None and first.uid != second.uid
    first.release()
    third = claim_user()
    assert third is not None and third.uid == first.uid
    second.release()
    third.release()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with code 0"),
        (3 << 8, "exited with code 3"),
        (signal.SIGSEGV, "killed by SIGSEGV"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),
        (signal.SIGXCPU, "killed by SIGXCPU (CPU time limit)"),
        (signal.SIGKILL, "killed by SIGKILL"),
        (0x137F, "stopped by SIGSTOP"),
    ],
)
def test_a_wait_status_in_words(status: int, words: str) -> None:
    assert signal_name(int(status)) == words


def test_a_kill_for_want_of_memory_is_guessed() -> None:
    assert signal_name(signal.SIGKILL, oom_before=-1) == "killed by SIGKILL (out of memory?)"


def test_a_process_on_its_way_out_runs_no_more(monkeypatch: pytest.MonkeyPatch):
    """A killed worker may be giving its pinned memory back for seconds, its socket closed already."""
    sleeper = subprocess.Popen(["sleep", "60"])
    assert processes.is_running(sleeper.pid)
    stat = Path(f"/proc/{sleeper.pid}/stat").read_text()
    name, fields = stat[: stat.rindex(")") + 2], stat[stat.rindex(")") + 2 :].split()
    fields[6] = str(int(fields[6]) | 0x4)
    monkeypatch.setattr(processes, "_stat", lambda pid: processes._Stat(name + " ".join(fields), alone=False))
    assert not processes.is_running(sleeper.pid)
    monkeypatch.undo()
    sleeper.kill()
    while processes._stat(sleeper.pid).state != "Z":
        time.sleep(0.01)
    assert not processes.is_running(sleeper.pid)
    sleeper.wait()


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks as if it was on its way out, giving memory back inside a driver, whatever it does."""
    process = subprocess.Popen(["sleep", "60"])
    real = processes._stat

    def stat(pid: int, task: str = "") -> processes._Stat | None:
        found = real(pid, task)
        if pid == process.pid and found is not None:
            found.state, found.exiting = "R", True
        return found

    monkeypatch.setattr(processes, "_stat", stat)
    yield process
    process.kill()
    process.wait()


def test_killing_waits_for_nobody_who_is_on_his_way_out(leaving: subprocess.Popen[bytes]):
    steps = processes.killing(leaving.pid)
    for _ in range(3):
        next(steps)
    assert leaving.wait(5) == -signal.SIGKILL
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert done.value.value is True


def test_one_on_his_way_out_stands_still_enough(leaving: subprocess.Popen[bytes]):
    """It runs no code of its own any more: who is timed need not wait for it."""
    assert processes.halt([leaving.pid])
