"""Where a database is, what lies there, and engines to read and write it. SQLite only.

The file itself is never opened by anything but SQLite: closing any other descriptor of it would drop the locks this
process holds on it (POSIX), and with them the store's integrity.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ..errors import EnvironmentLacks, StoreError, UsageError

#: Written to the file's header: ASCII "KGrv".
APPLICATION_ID = 0x4B477276

#: How long a transaction waits for another process's before it gives up, seconds.
BUSY_S = 30.0

_OLDEST_SQLITE = (3, 35, 0)  # UPDATE … RETURNING


@dataclass(frozen=True)
class Location:
    """A database as the user wrote it (for messages) and where it is."""

    shown: str
    path: Path


class Found(Enum):
    NOTHING = "nothing"  # no file
    EMPTY = "empty"  # a file in which nothing was ever committed
    OURS = "ours"


def locate(url: str | os.PathLike[str]) -> Location:
    """A path or a ``sqlite:///path`` URL. Raises UsageError for anything else."""
    text = os.fspath(url)
    scheme, sign, rest = text.partition("://")
    if not sign:
        shown = text
    elif scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        shown = rest[1:]
    elif scheme.startswith("postgres"):
        raise UsageError("PostgreSQL is not supported yet.", "Give --db a path or sqlite:///path.")
    else:
        raise UsageError(
            f"{text!r} is not a database that KernelGrove can open.", "Give --db a path or sqlite:///path."
        )
    if not shown or shown == ":memory:" or "\x00" in shown:
        raise UsageError(f"{text!r} is not a path.", "A search is kept in a file: give --db a path or sqlite:///path.")
    return Location(shown, Path(shown).expanduser().absolute())


def _code(error: BaseException) -> int:
    """SQLite's primary result code; 0 where Python raised *error* by itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def explain(error: BaseException, shown: str) -> StoreError:
    """SQLite's *error* as one sentence that names the database and says what to do."""
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return StoreError(f"{shown}: the disk is full.", "Free some space and resume: what was stored is safe.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"{shown} was locked by another process for more than {BUSY_S:.0f} s.", "Try again when it is done."
            )
        case sqlite3.SQLITE_READONLY:
            return StoreError(f"{shown} is read-only.", "Copy it somewhere writable, or make it writable.")
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{shown} is not a KernelGrove database.", "Give --db another path.")
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(
                f"{shown} is damaged ({error}).",
                "Restore a backup, or save what can be read with `kernelgrove export`.",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(f"{shown} cannot be opened.", "Check that the folder exists and that it may be used.")
        case sqlite3.SQLITE_IOERR:
            return StoreError(f"{shown}: the disk failed to read or write ({error}).", "Check the disk or the mount.")
    if "fts5" in str(error):
        return StoreError(f"{shown}: this Python's SQLite has no full-text search (FTS5).", "Use another Python build.")
    return StoreError(f"{shown}: the database refused: {error}.")


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Turns what SQLite raises inside into a StoreError."""
    try:
        yield
    except DBAPIError as error:
        raise explain(error.orig or error, shown) from error
    except sqlite3.Error as error:
        raise explain(error, shown) from error


# ------------------------------------------------------------------------------------------------ reading


def _uri(path: Path, query: str) -> str:
    return f"file:{quote(str(path))}?{query}"


def _open(path: Path, query: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        _uri(path, query), uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, wherever the file lies.

    Reading a WAL database takes a ``-shm`` file beside it. Where none can be made (a read-only folder or medium) no
    writer can be at work either, so the file is read as immutable; with what a crash left in its ``-wal``, if
    anything, from a private copy.
    """
    try:
        return _open(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if not path.is_file() or not os.access(path, os.R_OK):
            raise
        log = Path(f"{path}-wal")
        if not log.exists() or log.stat().st_size == 0:
            return _open(path, "mode=ro&immutable=1")
        return _open_copy(path, log)


def _open_copy(path: Path, log: Path) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="kernelgrove-") as folder:
        copy = Path(folder) / "copy.db"
        shutil.copyfile(path, copy)
        shutil.copyfile(log, f"{copy}-wal")
        copied = sqlite3.connect(copy)
        try:
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            copied.backup(memory)
        finally:
            copied.close()
    memory.execute("PRAGMA query_only = ON")
    return memory


def look(location: Location) -> tuple[Found, int]:
    """What lies at *location*, and its schema's number. Raises StoreError where it is not ours."""
    path, shown = location.path, location.shown
    if path.is_dir():
        raise StoreError(f"{shown} is a folder, not a KernelGrove database.", "Give --db the path of a file.")
    try:
        if not path.exists():
            return Found.NOTHING, 0
    except OSError as error:
        raise StoreError(f"{shown} cannot be opened: {error.strerror}.") from error
    with translated(shown):
        connection = connect_reader(path)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    if application == APPLICATION_ID:
        return Found.OURS, version
    if (application, version, objects) == (0, 0, 0):
        return Found.EMPTY, 0
    raise StoreError(f"{shown} is not a KernelGrove database but another program's.", "Give --db another path.")


def reading_engine(location: Location) -> Engine:
    """Connections that cannot write; each transaction sees one state of the file."""
    engine = create_engine(
        "sqlite://", creator=lambda: connect_reader(location.path), poolclass=QueuePool, pool_size=4, max_overflow=28
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    _driver(connection).execute("BEGIN")


# ------------------------------------------------------------------------------------------------ writing


def writing_engine(location: Location, *, create: bool) -> Engine:
    """One connection, for ``transaction``: IMMEDIATE ones, since a deferred one that reads before it writes fails with
    "locked", whatever the time-out."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise EnvironmentLacks(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed.", "Use a newer Python build."
        )
    mode = "rwc" if create else "rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            _uri(location.path, f"mode={mode}"), uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0)
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    entry.info["log"] = _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_write_ahead_log(connection: sqlite3.Connection) -> bool:
    """Changing the mode needs the file to itself for an instant, and SQLite does not wait for that by itself. File
    systems that cannot do WAL (some network ones) keep their rollback journal, which is as safe and slower: False."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _driver(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@contextmanager
def transaction(connection: Connection, *, durable: bool) -> Iterator[None]:
    """One transaction of a ``writing_engine``'s connection, IMMEDIATE; nothing of it stays if the block raises.

    Bounded here and not by SQLAlchemy, whose own bounds would take longer than many a transaction's work. One that is
    not *durable* is in the write-ahead log when it has committed, in order, and is flushed to the disk with the next
    that is. Without such a log every transaction is flushed.
    """
    driver = _driver(connection)
    driver.execute(f"PRAGMA synchronous = {'FULL' if durable or not connection.info['log'] else 'NORMAL'}")
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:  # some errors, as a full disk, end it by themselves
            driver.execute("ROLLBACK")
        raise


def settle(connection: Connection) -> None:
    """Move what is in the write-ahead log into the file, so far as no reader needs it there: SQLite itself does so only
    when the last connection of all closes, and people copy the file once their search has ended."""
    with suppress(sqlite3.Error):  # it stays in the log then, where every reader finds it
        _driver(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
