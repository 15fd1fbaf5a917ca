"""How much of a disk a worker holds. No limit of the kernel's counts it, so the nursery looks now and then."""

# ruff: noqa: PTH110, PTH116, PTH208 - thousands of small looks

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

_BLOCK = 512  # what st_blocks counts in
_MOST_FILES = 500_000


class Disk:
    """The file system of *folder*. Cheap to ask whether it has lost so much that looking closer is worth the time."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._free, self._files = self._state()

    def lost(self, size: int) -> bool:
        """Whether there are *size* bytes, or many files, less than there were; what there is now then counts as all."""
        free, files = self._state()
        fell = self._free - free > size or self._files - files > _MOST_FILES // 2
        self._free = free if fell else max(free, self._free)
        self._files = files if fell else max(files, self._files)
        return fell

    def _state(self) -> tuple[int, int]:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize, status.f_favail


def holds_more(folder: str, pids: Iterable[int], size: int) -> bool:
    """Whether *folder* holds more than *size* bytes or very many files, with what processes *pids* have open there
    without a name. What cannot be looked at (a path too long, say) counts as more."""
    if not os.path.exists(folder):
        return False
    try:
        device = os.stat(folder).st_dev
        left, files = size - _nameless(pids, device), _MOST_FILES
        todo = [folder]
        while todo and left >= 0 and files >= 0:
            try:
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        files -= 1
                        left -= entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
            except FileNotFoundError:  # gone meanwhile
                continue
    except OSError:
        return True
    return left < 0 or files < 0


def _nameless(pids: Iterable[int], device: int) -> int:
    """Bytes of files on *device* that were removed while *pids* have them open."""
    found: dict[int, int] = {}
    for pid in pids:
        try:
            # Those of its last thread: of a first one that has ended alone there are none to be seen.
            task = max(os.listdir(f"/proc/{pid}/task"), key=int)
            for name in os.listdir(f"/proc/{pid}/task/{task}/fd"):
                status = os.stat(f"/proc/{pid}/task/{task}/fd/{name}")
                if status.st_dev == device and not status.st_nlink and stat.S_ISREG(status.st_mode):
                    found[status.st_ino] = status.st_blocks * _BLOCK
        except (OSError, ValueError):  # the process, or the descriptor, is gone
            continue
    return sum(found.values())
