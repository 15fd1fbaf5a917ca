"""The judge's side of a worker: ask with a time limit, find out how it died, stop it."""

from __future__ import annotations

import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import sandbox
from ..wire.protocol import PeerGone, Reply, fresh_number, parse_reply, send_patiently
from ..wire.replies import checked

#: In a worker's scratch folder, where clean_environment() points Triton and PyTorch's extensions.
CACHES = ("triton", "extensions")
KILL_LIMIT_S = 15.0  # a fork bomb of a thousand processes took 8 s


class WorkerDied(Exception):
    """The worker's process ended without an answer; the text says how (``killed by SIGSEGV``)."""


class WorkerTimeout(Exception):
    """The worker gave no answer within its limit and was killed."""


class WorkerFailed(Exception):
    """The worker said that the candidate failed."""

    def __init__(self, outcome: str, stage: str, message: str) -> None:
        super().__init__(message)
        self.outcome, self.stage, self.message = outcome, stage, message


@dataclass(frozen=True)
class Prepared:
    """What a worker starts with: a folder that holds some of CACHES. Where *scratch* is named, its own folder has to be
    there: what was built knows itself by that path."""

    folder: Path
    scratch: str | None = None
    note: str = ""  # what went wrong where not all was prepared
    refused: bool = False  # by the compiler, for the reason in ``note``


@dataclass(frozen=True)
class Order:
    """What a worker is to be: its precision policy, what is *prepared* for it, and whether all of its CUDA streams
    share *one_queue* (``queues.py``)."""

    precision: str = "default"
    prepared: Prepared | None = None
    one_queue: bool = False


class Owner(Protocol):
    """Who forked a worker: the nursery, as far as a worker asks it anything. By its pid."""

    def kill(self, pid: int) -> None: ...

    def distrust(self, pid: int) -> None:
        """It is about to run a candidate."""

    def slept_s(self, pid: int) -> float:
        """How long it has been stopped in all, seconds, which does not count against its limits."""

    def exit_words(self, pid: int, timeout_s: float) -> str | None:
        """How it ended, or None if it has not within *timeout_s*."""

    def is_clean(self, pid: int) -> bool:
        """Whether it has ended, and all that it started."""

    def forget(self, pid: int, once_clean: Callable[[], None] | None = None) -> None:
        """Drop what is known of it. *once_clean* is called when it has ended, and all that it started, if ever."""


class Worker:
    """One worker. Not thread-safe: one request at a time."""

    def __init__(
        self, owner: Owner, sock: socket.socket, pid: int, scratch: str, user: sandbox.PrivateUser | None
    ) -> None:
        self._owner = owner
        self._user = user
        self._sock = sock
        self.pid = pid
        self.scratch = scratch
        self._number = 0  # of the last request
        self.layers: list[dict[str, Any]] = []
        self.left_s = math.inf  # for all answers together that are still to come
        self.wall_s = 0.0  # of the last request: from just before it was sent until its answer was here

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(
        self, op: str, expected: Reply, timeout_s: float, fields: Mapping[str, Any], blobs: Sequence[bytes | int] = ()
    ) -> dict[str, Any]:
        """Send a request with memfds (bytes) and descriptors (ints) beside it and wait for its answer.

        Raises WorkerFailed, WorkerDied, WorkerTimeout, ProtocolBreak.
        """
        started = time.perf_counter()
        self.send(op, fields, blobs)
        reply = self.answer(expected, timeout_s)
        self.wall_s = time.perf_counter() - started
        return reply

    def send(self, op: str, fields: Mapping[str, Any], blobs: Sequence[bytes | int] = ()) -> None:
        """Send a request without waiting. Raises WorkerDied."""
        self._number = fresh_number()
        made = [_memfd(blob) for blob in blobs if isinstance(blob, bytes)]
        fresh = iter(made)
        fds = [next(fresh) if isinstance(blob, bytes) else blob for blob in blobs]
        try:
            send_patiently(self._sock, {"op": op, "number": self._number, **fields}, fds)
        except (PeerGone, OSError):
            raise WorkerDied(self._how_it_died()) from None
        finally:
            for fd in made:
                os.close(fd)

    def answer(self, expected: Reply, timeout_s: float, keep: bool = False) -> dict[str, Any]:
        """The answer to what was last sent. A worker that gives none in time is killed, unless *keep*."""
        limit = left = max(0.001, min(timeout_s, self.left_s))
        started, slept = time.perf_counter(), self._owner.slept_s(self.pid)
        before = slept
        try:
            while True:
                self._sock.settimeout(left)
                try:
                    data = self._sock.recv(1 << 17)
                    break
                except TimeoutError:
                    left, slept = self._owner.slept_s(self.pid) - slept, self._owner.slept_s(self.pid)
                    if left > 0:  # others were timed meanwhile
                        continue
                    if not keep:
                        self._owner.kill(self.pid)
                    which = "" if limit == timeout_s else ", which was left of the time for all its calls"
                    raise WorkerTimeout(f"no answer within {round(limit, 1):g} s{which}") from None
                except ConnectionResetError:
                    data = b""
                    break
        finally:
            self.left_s -= time.perf_counter() - started - (self._owner.slept_s(self.pid) - before)
        if not data:
            raise WorkerDied(self._how_it_died())
        kind, payload = parse_reply(data, self._number, expected)
        payload = checked(kind, payload)
        if kind is Reply.FAILED:
            raise WorkerFailed(**payload)
        return payload

    def watch(self, limit_s: float) -> None:
        """Look without a pause, up to *limit_s*, whether it has something to say: who sleeps meanwhile is woken late,
        the later the longer he slept. Not where there is one processor alone: that would be taken from it."""
        if len(os.sched_getaffinity(0)) < 2:
            return
        began = now = time.perf_counter()
        until = began + min(limit_s, self.left_s)
        while self.waiting and now < until:
            now = time.perf_counter()
        self.left_s -= now - began

    def _how_it_died(self) -> str:
        words = self._owner.exit_words(self.pid, 2.0)
        if words is None and not sandbox.is_running(self.pid):  # its nursery is killing what another left
            words = self._owner.exit_words(self.pid, 2 * KILL_LIMIT_S)
        if words is None:
            self._owner.kill(self.pid)
            return "it closed its connection and went on running"
        return words

    def distrust(self) -> None:
        """It is about to run a candidate."""
        self._owner.distrust(self.pid)

    @property
    def uid(self) -> int:
        """The user that it runs as: its scratch folder's owner, which it cannot change."""
        return os.lstat(self.scratch).st_uid

    @property
    def waiting(self) -> bool:
        """Whether it is alive and has said nothing that it was not asked for."""
        self._sock.settimeout(0.0)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def furnish(self, folder: Path) -> None:
        """Put what *folder* holds into its scratch folder, as its own."""
        shutil.copytree(folder, self.scratch, dirs_exist_ok=True)
        if self._user is not None:
            sandbox.hand_over(self.scratch, self._user.uid)

    def stop(self) -> bool:
        """Kill it and all that it started; whether nothing of it runs any more. Its scratch folder stays until
        ``close``."""
        self._sock.close()
        if self._owner.exit_words(self.pid, 0.0) is None:
            self._owner.kill(self.pid)
            self._owner.exit_words(self.pid, KILL_LIMIT_S)
        return self._owner.is_clean(self.pid)

    def close(self) -> None:
        """Kill whatever is left of it, remove its scratch folder and give its user back. Where something of it cannot
        be killed yet (a driver may take its time), folder and user stay its own until it is gone."""
        clean = False
        try:
            clean = self.stop()
        finally:
            self._owner.forget(self.pid, None if clean else self._vacate)
            if clean:
                self._vacate()

    def _vacate(self) -> None:
        try:
            sandbox.remove(self.scratch)
        finally:
            if self._user is not None:
                self._user.release()


def _memfd(data: bytes) -> int:
    fd = os.memfd_create("request", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd
