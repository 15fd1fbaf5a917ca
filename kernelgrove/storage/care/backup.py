"""``backup``: one file with all that was committed, taken while searches go on writing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ...errors import StoreError, UsageError
from ..connect import connect_reader, translated
from ..store import SqliteStore


def backup(store: SqliteStore, to: str) -> int:
    """Copy *store* to the new file *to*; its size in bytes. The copy is one state of the grove, checked before it
    gets its name, so that a file of that name is never half a copy.

    Raises UsageError where *to* exists or cannot be made, StoreError where the grove is damaged or the disk full.
    """
    target = Path(to).expanduser().absolute()
    taken = UsageError(f"{to} exists already, and a backup overwrites nothing.", "Name another file.")
    if os.path.lexists(target):
        raise taken
    if not target.parent.is_dir():
        raise UsageError(f"{to} cannot be made: there is no folder {target.parent}.", "Make it first.")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _copy(store, partial, to)
        try:
            os.link(partial, target)  # unlike a rename it never replaces what someone made meanwhile
        except FileExistsError:
            raise taken from None
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise taken from None
            partial.rename(target)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}.", "Name a file elsewhere.") from error
    finally:
        for left in (partial, Path(f"{partial}-journal"), Path(f"{partial}-wal"), Path(f"{partial}-shm")):
            left.unlink(missing_ok=True)
    _flush(target.parent)
    return target.stat().st_size


def _copy(store: SqliteStore, partial: Path, to: str) -> None:
    shown = store.location.shown
    with translated(shown):
        source = connect_reader(store.location.path)
    with closing(source):
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with translated(to), closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            says = _copied(source, copy)
    if says != "ok":
        raise StoreError(
            f"{shown} is damaged, so there is no backup of it: {' '.join(says.split())}.",
            "See `kernelgrove verify`, and save what can be read with `kernelgrove export`.",
        )


def _copied(source: sqlite3.Connection, copy: sqlite3.Connection) -> str:
    """``ok``, or what is wrong with the copy and so with the grove: a full disk raises, damage is copied."""
    try:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, readable from a read-only medium
        (says,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        return str(error)
    return str(says)


def _flush(folder: Path) -> None:
    """The new name is on the disk when the command has ended."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # not every file system has it
    finally:
        os.close(descriptor)
