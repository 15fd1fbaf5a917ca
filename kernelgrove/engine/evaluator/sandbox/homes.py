"""Folders that do not outlive their owner: a lock on each dies with the process that made it, however that dies."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from .leavings import remove

_PREFIX = "kernelgrove-scratch-"


class Home:
    """A fresh folder of this process's own, under the system's folder for temporary files."""

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _locked(self._lock) and self.path.exists():
                return
            os.close(self._lock)  # a sweeper took it for abandoned

    def remove(self) -> None:
        remove(self.path)
        os.close(self._lock)


def sweep() -> None:
    """Remove the homes of this user's processes that are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid() and _locked(descriptor):
                remove(path)
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Lock what *descriptor* is open on, unless somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
