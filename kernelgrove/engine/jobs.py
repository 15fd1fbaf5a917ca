"""Jobs: who owns a lease, and threads to run them."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue

from ..ports import Job

#: How often a job is tried before it is given up: the first time, and two more.
MAX_ATTEMPTS = 3

# ------------------------------------------------------------------------------------------------- ownership


#: Owners of this very process that are at work: its start time alone cannot tell its controllers apart.
_AT_WORK: set[str] = set()
_serial = itertools.count(1)


@dataclass(frozen=True)
class Owner:
    """Who holds a lease: host, process id, when that process started (a reused id is told apart), and which of
    that process's controllers it is. Other holders of leases have a *role* of their own."""

    host: str
    pid: int
    started: str
    role: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started}:{self.role}"

    @staticmethod
    def parse(text: str) -> Owner | None:
        """None for anything that is not an owner's text."""
        parts = text.rsplit(":", 3)
        if len(parts) != 4 or not parts[1].isdigit():
            return None
        return Owner(parts[0], int(parts[1]), parts[2], parts[3])

    @staticmethod
    def here(role: str = "controller") -> Owner:
        """A new owner in this process."""
        return Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "0", f"{role}.{next(_serial)}")

    @property
    def controls(self) -> bool:
        return self.role.startswith("controller")

    def alive(self) -> bool | None:
        """Whether it is still at work; None for another host, which cannot be asked."""
        if self.host != socket.gethostname():
            return None
        if process_start(self.pid) != self.started:
            return False
        return self.pid != os.getpid() or str(self) in _AT_WORK

    @contextmanager
    def at_work(self) -> Iterator[None]:
        _AT_WORK.add(str(self))
        try:
            yield
        finally:
            _AT_WORK.discard(str(self))


@cache
def _boot() -> str:
    """Tells this boot of the machine from others: start times count from boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return "boot"


def process_start(pid: int) -> str | None:
    """When process *pid* started (boot and clock ticks since), None when there is none or it is a zombie.

    From ``/proc/<pid>/stat`` (fields 3 and 22); where there is no ``/proc``, only whether the process exists.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "0"
    try:
        # The command, in parentheses, may hold anything: what follows its last ')' is fields 3 onwards.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else f"{_boot()}.{fields[19]}"


# --------------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Ended:
    """What a job's thread came to: its value, or the exception it raised."""

    job: Job
    value: object
    error: BaseException | None
    wall_s: float


class Runner:
    """Runs each job in a thread of its own and queues how it ended. The threads are daemons: one that hangs in a
    network call must not keep the process from ending once the search is stopped."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ended: SimpleQueue[Ended | None] = SimpleQueue()

    def start(self, job: Job, work: Callable[[], object]) -> None:
        def body() -> None:
            begun = self._clock()
            value: object = None
            error: BaseException | None = None
            try:
                value = work()
            except BaseException as caught:  # whatever it is, it ends this job, never the loop
                error = caught
            self._ended.put(Ended(job, value, error, self._clock() - begun))

        threading.Thread(target=body, name=f"{job.kind}-{job.id}", daemon=True).start()

    def wake(self) -> None:
        """End a wait early; safe in a signal handler."""
        self._ended.put(None)

    def wait(self, timeout_s: float) -> list[Ended]:
        """All that has ended, waiting up to *timeout_s* for the first."""
        found: list[Ended] = []
        try:
            item = self._ended.get(timeout=max(0.0, timeout_s))
            while True:
                if item is not None:
                    found.append(item)
                item = self._ended.get_nowait()
        except Empty:
            return found
