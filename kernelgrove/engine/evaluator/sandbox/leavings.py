"""What an untrusted process leaves on disk: removed, or copied, without being led elsewhere by links, depth or names.

Everything goes through descriptors of folders, so that no link is followed and no path is too long, and nothing
recurses.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # opening a pipe would wait for a writer


def remove(path: str | Path) -> None:
    """Remove folder *path* and all below it, however deep and whatever its modes; what cannot be removed stays.

    Each folder's own folders are moved up beside it before it is removed. Nobody may be writing there any more.
    """
    with contextlib.suppress(OSError):
        root = os.open(path, _FOLDER)
        try:
            fresh = itertools.count()
            todo = _emptied(root, None, fresh)
            while todo:
                name = todo.pop()
                with contextlib.suppress(OSError), _opened(name, root) as folder:
                    todo += _emptied(folder, root, fresh)
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=root)
        finally:
            os.close(root)
        Path(path).rmdir()


@contextlib.contextmanager
def _opened(name: str, inside: int) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _emptied(folder: int, root: int | None, fresh: Iterator[int]) -> list[str]:
    """Remove the files of *folder* and move its folders into *root* (None: they are there). Returns their names now."""
    names = []
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        with contextlib.suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
                continue
            _unlock(name, folder)
            moved = name
            if root is not None:
                moved = f".removed-{os.getpid()}-{next(fresh)}"
                os.rename(name, moved, src_dir_fd=folder, dst_dir_fd=root)
            names.append(moved)
    return names


def _unlock(name: str, inside: int) -> None:
    """Let this user read and change folder *name*, whatever its mode was."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inside)
    try:
        if os.fstat(descriptor).st_mode & 0o700 != 0o700:
            Path(f"/proc/self/fd/{descriptor}").chmod(0o700)
    finally:
        os.close(descriptor)


@dataclass
class Copier:
    """Copies plain files of *owner*, with their folders, within limits that hold over all copies. *owner* is the user
    that the process ran as, so that nothing of anybody else's is copied however it came there."""

    owner: int
    bytes_left: int
    files_left: int
    deepest: int = 4
    shallowest: int = 1  # files lie in folders at least so deep
    _todo: list[tuple[tuple[str, ...], Path]] = field(default_factory=list)

    def copy(self, folder: str | Path, names: Collection[str], target: Path) -> None:
        """Copy the folders *names* in *folder*, which nobody may be writing any more, into *target*: no links or pipes,
        no files with a second name, nothing that is too deep or past a limit."""
        with contextlib.suppress(OSError):
            root = os.open(folder, _FOLDER)
            try:
                self._todo = [((name,), target / name) for name in names]
                while self._todo:
                    steps, inside = self._todo.pop()
                    with contextlib.suppress(OSError), _walked(root, steps) as source:
                        self._copy_folder(source, steps, inside)
            finally:
                os.close(root)

    def _copy_folder(self, source: int, steps: tuple[str, ...], target: Path) -> None:
        if os.fstat(source).st_uid != self.owner:
            return
        target.mkdir(parents=True, exist_ok=True)
        with os.scandir(source) as entries:
            for entry in entries:
                if self.files_left <= 0:
                    return
                self.files_left -= 1
                if entry.is_dir(follow_symlinks=False):
                    if len(steps) < self.deepest:
                        self._todo.append(((*steps, entry.name), target / entry.name))
                elif entry.is_file(follow_symlinks=False) and len(steps) >= self.shallowest:
                    with contextlib.suppress(OSError):
                        self._copy_file(entry.name, source, target / entry.name)

    def _copy_file(self, name: str, source: int, target: Path) -> None:
        with open(os.open(name, _FILE, dir_fd=source), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == self.owner
            if not plain or status.st_size > self.bytes_left:
                return
            self.bytes_left -= status.st_size
            with target.open("xb") as copied:
                shutil.copyfileobj(file, copied)
                copied.flush()  # which changes the time
                os.fchmod(copied.fileno(), status.st_mode & 0o755)
                os.utime(copied.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _walked(root: int, steps: tuple[str, ...]) -> Iterator[int]:
    """The folder that *steps* lead to from *root*, none of them over a link."""
    with contextlib.ExitStack() as stack:
        for step in steps:
            root = stack.enter_context(_opened(step, root))
        yield root
