"""Finding and killing all that a worker started, however it tried to hide.

``killpg`` misses what called ``setsid``, and what was forked twice no longer has a parent. So the process that owns
workers becomes a *subreaper* (orphans become its children, not init's), and a tree is found by walking parents.
"""

# ruff: noqa: PTH123, PTH208 - thousands of small reads of /proc, racing what forks

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from pathlib import Path

from . import syscalls

#: A process in one of these states runs no more code: stopped, traced, zombie, dead.
_HALTED = frozenset("TtZXx")
_DEAD = frozenset("ZXx")
_PF_EXITING = 0x4  # include/linux/sched.h
_PAUSE_S = 0.001
#: Between two looks at what stopped threads have had; and in which it stays the same, or never will.
_SETTLED_S, _SETTLED_LIMIT_S = 0.001, 0.05
#: Stopping is given up after this long (a stopped process can be woken by one that is not), and killing begins.
_STOP_S = 0.25
_KILL_USER_S = 5.0

#: Held while this module has a child of its own, which ``reap_orphans`` in another thread must not take.
_OWN_CHILDREN = threading.Lock()

Killing = Generator[None, None, bool]

_CHILDREN_FILES = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def become_subreaper() -> None:
    """Orphans of this process's descendants become its children from now on, for all of its threads."""
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


class _Stat:
    """State, parent, start time (clock ticks since boot) of one process, or of one thread of it (*alone*), and whether
    it is on its way out."""

    __slots__ = ("exiting", "parent", "start", "state")

    def __init__(self, text: str, alone: bool) -> None:
        fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
        self.state, self.parent, self.start = fields[0], int(fields[1]), int(fields[19])
        self.exiting = bool(int(fields[6]) & _PF_EXITING)
        if self.state == "Z" and int(fields[17]) > 1 and not alone:
            self.state, self.exiting = "R", False  # only its first thread has ended: the others run on


def _stat(pid: int, task: str = "") -> _Stat | None:
    try:
        with open(f"/proc/{pid}/{f'task/{task}/' if task else ''}stat", encoding="utf-8", errors="replace") as file:
            return _Stat(file.read(), alone=bool(task))
    except (OSError, ValueError):  # gone
        return None


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:  # gone
        return []


def _listed_children(pid: int) -> set[int]:
    found: set[int] = set()
    for task in _tasks(pid):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found.update(map(int, file.read().split()))
        except OSError:  # this thread is gone
            continue
    return found


def _lookup() -> Callable[[int], set[int]]:
    """A function from a process to its children: the kernel's own list, or, where it is built without
    CONFIG_PROC_CHILDREN, a table of every process's parent as they are now."""
    if _CHILDREN_FILES:
        return _listed_children
    table: dict[int, set[int]] = {}
    for child in _all():
        stat = _stat(child)
        if stat:
            table.setdefault(stat.parent, set()).add(child)
    return lambda pid: table.get(pid, set())


def _below(roots: Iterable[int]) -> set[int]:
    children_of, found, todo = _lookup(), set[int](), list(roots)
    while todo:
        fresh = children_of(todo.pop()) - found
        found |= fresh
        todo += fresh
    return found


def children(pid: int) -> set[int]:
    """The processes whose parent is *pid*, zombies included."""
    return _lookup()(pid)


def descendants(pid: int) -> set[int]:
    """All processes below *pid*, zombies included, *pid* itself not. What was orphaned is below the subreaper."""
    return _below([pid]) - {pid}


def is_running(pid: int) -> bool:
    """Whether process *pid* is there and neither ended nor ending: a driver may take seconds to give memory back."""
    stat = _stat(pid)
    return stat is not None and stat.state not in _DEAD and not stat.exiting


def processes_of(uid: int) -> set[int]:
    """All processes whose real user is *uid*, dead ones that nobody has reaped left out.

    Read from ``status``: the owner of ``/proc/<pid>`` can be changed by its process.
    """
    found = set()
    for pid in _all():
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                status = file.read()
            at = status.index(b"\nUid:\t") + 6
            if int(status[at : status.index(b"\t", at)]) == uid and (stat := _stat(pid)) and stat.state not in _DEAD:
                found.add(pid)
        except (OSError, ValueError):  # gone
            continue
    return found


def kill_tree(pid: int, uid: int | None = None, timeout_s: float = 10.0) -> bool:
    """Kill *pid* and everything below it, and everything of *uid* where the worker has that user to itself.

    All is stopped first, so that nothing forks or is orphaned while it is looked for, then killed, again and again
    until nothing runs. Returns True when nothing is left (zombies of other parents aside: their parents reap them),
    False when something still runs after *timeout_s* seconds (a process inside a driver call dies when that ends).
    *pid* must be a descendant that has not been reaped, or its number may be another's by now. Raises ValueError
    for this process, init, or the user that this process runs as.
    """
    return _waited_for(killing(pid, uid, timeout_s))


def killing(pid: int, uid: int | None = None, timeout_s: float = 10.0) -> Killing:
    """``kill_tree`` in steps, for who has other things to do: what dies inside a driver takes its time. A ``next``
    does not wait for that; what ``StopIteration`` carries is what ``kill_tree`` returns."""
    if pid <= 1 or pid == os.getpid() or (uid is not None and uid in (0, os.getuid())):
        raise ValueError(f"refusing to kill process {pid} and everything of user {uid}")
    return _kill({pid}, uid, time.monotonic() + timeout_s)


def _waited_for(steps: Killing) -> bool:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return bool(done.value)
        time.sleep(_PAUSE_S)


def halt(roots: Collection[int], timeout_s: float = _STOP_S) -> bool:
    """SIGSTOP whole trees: each process named and all below it. Each must be a subreaper, so that all that it started
    is below it: to look for what belongs to its user takes as many reads as there are processes.

    Returns True when all of it has halted, to the last thread, False when something still runs after *timeout_s*
    seconds. ``resume`` lets them go on. Processes are named as for ``kill_tree``.
    """
    known = {root: stat.start for root in roots if (stat := _stat(root))}
    deadline = time.monotonic() + timeout_s
    while True:
        before = len(known)
        _find(known, None)
        awake = [pid for pid, start in known.items() if _runs(pid, start, _HALTED, exiting=False)]
        awake = [pid for pid in awake if not _all_halted(pid)]  # the first thread may have ended alone
        for pid in awake:
            _send(pid, signal.SIGSTOP)
        if not awake and len(known) == before and all(map(_all_halted, known)):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)


def thread_ns(roots: Collection[int], stopped: bool = False) -> dict[tuple[int, int], int]:
    """The CPU time that each thread of *roots* and of all below has had, in nanoseconds, but those on their way out;
    with *stopped*, of those that stand still. A process may have itself woken (a timer may send SIGCONT) and be stopped
    again before anybody looks: this tells."""
    found = {}
    for pid in _below(roots) | set(roots):
        for task in _tasks(pid):
            stat = _stat(pid, task)
            if stat is not None and not stat.exiting and (stat.state in "Tt" or not stopped):
                with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    taken_ns = int(file.read().split()[0])
                    stat = _stat(pid, task)  # killed since, it had time for its end, which is no time of its own
                    if stat is not None and not stat.exiting:
                        found[pid, int(task)] = taken_ns
    return found


def settled_ns(roots: Collection[int]) -> dict[int, dict[tuple[int, int], int]]:
    """``thread_ns`` of what ``halt`` has stopped, by root, once it stays the same. A thread is called stopped a little
    before it leaves its processor, and what it had since the last tick is added only then: of 14,219 stops of a busy
    process on two cores in 12, after 0.06 to 0.32 ms, up to 1.06 ms of time."""
    before: dict[int, dict[tuple[int, int], int]] = {}
    deadline = time.monotonic() + _SETTLED_LIMIT_S
    while True:
        began = time.monotonic()
        found = {root: thread_ns([root], stopped=True) for root in roots}
        if found == before or began > deadline:
            return found
        before = found
        time.sleep(max(0.0, _SETTLED_S - (time.monotonic() - began)))


def resume(roots: Collection[int]) -> None:
    """SIGCONT what ``halt`` stopped."""
    known = {root: stat.start for root in roots if (stat := _stat(root))}
    _find(known, None)
    for pid in known:
        _send(pid, signal.SIGCONT)


def _all_halted(pid: int) -> bool:
    """Whether no thread of process *pid* runs. The state of the process is its first thread's."""
    stats = [_stat(pid, task) for task in _tasks(pid)]
    return all(stat is None or stat.state in _HALTED or stat.exiting for stat in stats)


def _kill(roots: Collection[int], uid: int | None, deadline: float) -> Killing:
    known = {root: stat.start for root in roots if (stat := _stat(root))}
    _stop(known, uid, min(deadline, time.monotonic() + _STOP_S))
    if uid is not None:
        _kill_user(uid)
    while True:
        _find(known, uid)
        running = [pid for pid, start in known.items() if _runs(pid, start, _DEAD)]
        if not running:
            return True
        for pid in running:
            _send(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        if any(_runs(pid, known[pid], _DEAD, exiting=False) for pid in running):
            time.sleep(_PAUSE_S)  # it may have forked meanwhile
        else:
            yield


def _find(known: dict[int, int], uid: int | None) -> None:
    """Add to *known* (pid -> start time) whatever is below any of it, or belongs to *uid*."""
    # A number whose start time differs was given to a stranger since: what is below it is none of ours.
    found = _below(pid for pid, start in known.items() if (stat := _stat(pid)) and stat.start == start)
    if uid is not None:
        found |= processes_of(uid)
    for pid in found - {os.getpid()}:
        stat = _stat(pid)
        if stat:
            known[pid] = stat.start


def _stop(known: dict[int, int], uid: int | None, deadline: float) -> None:
    """SIGSTOP the tree until all of it has halted and no new member turns up; *known* then holds all of it."""
    while time.monotonic() < deadline:
        before = len(known)
        _find(known, uid)
        awake = [pid for pid, start in known.items() if _runs(pid, start, _HALTED) and not _all_halted(pid)]
        for pid in awake:
            _send(pid, signal.SIGSTOP)
        if len(known) == before:
            if not awake:
                return
            time.sleep(_PAUSE_S)


def _runs(pid: int, start: int, halted: frozenset[str], exiting: bool = True) -> bool:
    """Whether the process that began at *start* is still there, in another state than *halted*. One on its way out
    counts where *exiting*: it runs no more code of its own, but its driver may."""
    stat = _stat(pid)
    return stat is not None and stat.start == start and stat.state not in halted and (exiting or not stat.exiting)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # gone; or it is not ours, which the deadline will show
        pass


def _kill_user(uid: int) -> None:
    """One ``kill(-1)`` as *uid*: the only way to be faster than processes that fork and exit without end."""
    if os.geteuid() != 0:
        return
    # The shell's own kill: no fork of this process, which may hold threads and a CUDA context. It spares itself. It can
    # be stopped by those whom it is to kill where Landlock keeps no signals in, and cannot be made where there are too
    # many processes: they are then killed one by one.
    with _OWN_CHILDREN, contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["/bin/sh", "-c", "kill -9 -1"],
            user=uid,
            group=uid,
            extra_groups=[],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_KILL_USER_S,
        )


def reap_orphans(keep: Collection[int], timeout_s: float = 10.0) -> dict[int, int]:
    """In a subreaper: kill every child that is not in *keep*, with all below it, and wait for it.

    *keep* must name every child that the caller still wants, the ones of ``subprocess`` too: they are killed and
    their exit status is taken otherwise. Returns pid -> wait status of those reaped. Gives up after *timeout_s*
    seconds.
    """
    deadline = time.monotonic() + timeout_s
    reaped: dict[int, int] = {}
    with _OWN_CHILDREN:
        while orphans := children(os.getpid()) - set(keep):
            _waited_for(_kill(orphans, None, deadline))
            for orphan in orphans:
                try:
                    pid, status = os.waitpid(orphan, os.WNOHANG)
                except ChildProcessError:  # reaped by another thread
                    continue
                if pid:
                    reaped[pid] = status
            if time.monotonic() > deadline:
                break
    return reaped


def kill_strays(keep: Collection[int], uids: Collection[int] = (), timeout_s: float = 10.0) -> bool:
    """Kill everything of the users *uids* and, in a subreaper, the children that it did not start, with all below them;
    reap them. Returns whether nothing of all this is left after *timeout_s* seconds.

    What a dead process of ours had started has left our session (a worker has one of its own, which cannot be left for
    another that exists); what we start is in ours, or named in *keep*.
    """
    deadline = time.monotonic() + timeout_s
    clean = True
    for uid in uids:
        clean = _waited_for(_kill((), uid, deadline)) and clean
    while syscalls.child_subreaper() and time.monotonic() < deadline:
        strays = {pid for pid in children(os.getpid()) - set(keep) if _session(pid) != os.getsid(0)}
        if not strays:
            return clean
        _waited_for(_kill(strays, None, deadline))
        for pid in strays:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # reaped by another thread
                continue
    return clean and not syscalls.child_subreaper()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:  # gone
        return os.getsid(0)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot, in this memory cgroup where known."""
    for path, key in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        try:
            for line in Path(path).read_text().splitlines():
                if line.startswith(key + " "):
                    return int(line.split()[1])
        except OSError:
            continue
    return 0


_OOM_KILLS_AT_IMPORT = oom_kills()
_HINTS = {
    "SIGXCPU": " (CPU time limit)",
    "SIGXFSZ": " (file size limit)",
    "SIGSYS": " (a forbidden system call)",
}


def signal_name(status: int, oom_before: int | None = None) -> str:
    """A wait status in words: ``killed by SIGSEGV``, ``exited with code 0``, ``killed by SIGKILL (out of memory?)``.

    Out of memory is named when the kernel has killed something for it since *oom_before* (``oom_kills()`` taken
    before the worker began; when this module was imported, if None).
    """
    if os.WIFEXITED(status):
        return f"exited with code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WSTOPSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if not os.WIFSIGNALED(status):
        return f"stopped by {name}"
    hint = _HINTS.get(name, "")
    if name == "SIGKILL" and oom_kills() > (_OOM_KILLS_AT_IMPORT if oom_before is None else oom_before):
        hint = " (out of memory?)"
    return f"killed by {name}{hint}"
