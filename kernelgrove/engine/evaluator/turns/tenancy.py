"""Evaluators that share a GPU take turns: a search and an `eval`, or two searches. Otherwise neither would know whose
kernels delay whose.

A GPU has a file that is locked by whoever has evaluations under way on it, and one beside it that is locked by who is
next. The kernel gives up the locks of a process that dies. Programs other than KernelGrove know nothing of this:
``stillness`` looks for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kernelgrove.errors import EvaluatorError

#: For this long an evaluator may begin evaluations while another one waits.
TURN_S = 10.0
#: For this long one waits for its turn. A candidate may take minutes until it is given up.
PATIENCE_S = 1800.0
_POLL_S = 0.01


class Tenancy:
    """One evaluator's turns on the GPU whose files are *path* and *path*.next; None: it has the device to itself."""

    def __init__(self, path: Path | None, turn_s: float = TURN_S, patience_s: float = PATIENCE_S) -> None:
        self._turn_s, self._patience_s = turn_s, patience_s
        self._changed = threading.Condition()
        self._inside = 0
        self._ours = path is None
        self._asking = False
        self._since = 0.0
        self._files: tuple[int, int] | None = None
        if path is not None:
            with contextlib.suppress(OSError):  # nowhere to meet: everyone for himself
                self._files = _opened(path), _opened(path.with_name(path.name + ".next"))
            self._ours = self._files is None

    @contextlib.contextmanager
    def stay(self, begun: bool = False) -> Iterator[float]:
        """What happens inside happens in a turn of this evaluator's; gives the seconds that were waited for it.
        *begun*: it belongs to what is inside already, which waits for it: it is not held back for another's turn.

        Raises EvaluatorError when no turn has come within half an hour.
        """
        began = time.monotonic()
        with self._changed:
            while not (self._ours and (begun or not self._over())):
                if self._ours or self._asking:
                    self._changed.wait(_POLL_S)
                else:
                    self._ask()
            self._inside += 1
        try:
            yield time.monotonic() - began
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside and self._files is not None:
                    fcntl.flock(self._files[0], fcntl.LOCK_UN)
                    self._ours = False
                self._changed.notify_all()

    def _over(self) -> bool:
        """Whether somebody else waits and this turn was long enough. Whoever is inside ends it by leaving."""
        if self._files is None or not self._inside or time.monotonic() - self._since < self._turn_s:
            return False
        if not _locked(self._files[1]):
            return True
        fcntl.flock(self._files[1], fcntl.LOCK_UN)
        return False

    def _ask(self) -> None:
        """Wait for the turn, with ``_changed`` let go meanwhile."""
        assert self._files is not None
        self._asking = True
        self._changed.release()
        try:
            here, next_ = self._files
            deadline = time.monotonic() + self._patience_s
            _wait(next_, deadline)
            try:
                _wait(here, deadline)
            finally:
                fcntl.flock(next_, fcntl.LOCK_UN)
        finally:
            self._changed.acquire()
            self._asking = False
        self._ours, self._since = True, time.monotonic()
        self._changed.notify_all()


def of_gpu(bus_id: str) -> Path:
    """Where the evaluators of a GPU (``0000:01:00.0``) meet: for all users of the machine the same."""
    return Path("/tmp") / f"kernelgrove-gpu-{bus_id}.lock"


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        # Not with O_CREAT where it is there: in a sticky folder Linux refuses that for another user's file.
        return os.open(path, flags | os.O_CREAT, 0o644)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(descriptor: int, deadline: float) -> None:
    while not _locked(descriptor):
        if time.monotonic() > deadline:
            raise EvaluatorError(
                "another evaluator has kept this GPU for itself for half an hour",
                "See who uses it (nvidia-smi), end that, and resume.",
            )
        time.sleep(_POLL_S)
