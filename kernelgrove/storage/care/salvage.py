"""What can still be read of a damaged grove, put together again as a sound one.

SQLite gives up at the first page that makes no sense. Here each table is read row by row around such pages, into a new
file; then rows that referred to lost ones are mended: an idea whose parent is lost hangs under the root, a call whose
job is lost gets one, a decision that is lost leaves an empty one. Nothing is made up but what holds the rest together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import StoreError
from ..connect import connect_reader, translated
from ..programs import hash_of_schema_1, program_hash
from ..store import SqliteStore, open_store
from . import mending

#: In an order in which what refers comes after what it refers to, as far as there is one.
TABLES = "problem device search node program implementation evaluation job completion decision".split()

#: How many ids in a row that cannot be read end the search for more, where nothing says how many there were.
_GIVE_UP = 20_000


@dataclass
class Salvaged:
    """How many rows of each table were read, which could not be, and what was done so that the rest holds together."""

    rows: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)


def salvage(store: SqliteStore, to: Path) -> Salvaged:
    """Read what can be read of *store* into a new grove at *to*. Raises StoreError where nothing can be."""
    done = Salvaged()
    open_store(to, create=True).close()
    with (
        translated(store.location.shown),
        closing(connect_reader(store.location.path)) as damaged,
        closing(sqlite3.connect(to, isolation_level=None)) as sound,
    ):
        sound.execute("PRAGMA foreign_keys = OFF")
        sound.execute("PRAGMA synchronous = OFF")
        sound.execute("BEGIN")
        triggers = mending.without_triggers(sound)
        for table in TABLES:
            _copy(damaged, sound, table, done)
        if not done.rows["search"]:
            raise StoreError(
                f"{store.location.shown} is damaged, and no search in it can be read.", "Restore a backup."
            )
        done.mended = mending.mend(sound)
        for trigger in triggers:
            sound.execute(trigger)
        sound.execute("COMMIT")
    return done


def _copy(damaged: sqlite3.Connection, sound: sqlite3.Connection, table: str, done: Salvaged) -> None:
    columns = [row[1] for row in sound.execute(f"PRAGMA table_info({table})")]
    write = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    rows, kept = 0, 0
    broken: list[int] = []
    for id_, row in _rows(damaged, table, columns):
        if row is None or not _sound(table, dict(zip(columns, row, strict=True))):
            broken.append(id_)
        else:
            rows += sound.execute(write, row).rowcount
            kept = id_
    done.rows[table] = rows
    tail = [id_ for id_ in broken if id_ > kept]
    between = [id_ for id_ in broken if id_ < kept]
    if between:
        shown = ", ".join(map(str, between[:5])) + (f" and {len(between) - 5} more" if len(between) > 5 else "")
        done.unreadable.append(f"{table}: id {shown}")
    if tail:
        done.unreadable.append(f"{table}: all from id {tail[0]} on")


def _rows(
    damaged: sqlite3.Connection, table: str, columns: list[str]
) -> Iterator[tuple[int, tuple[object, ...] | None]]:
    """Every id with its row; None where it cannot be read."""
    # Read by row, never by index: an index may be what is damaged.
    read = f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED WHERE id"
    at, last = 1, _last(damaged, table)
    while at <= last:
        try:
            for row in damaged.execute(f"{read} >= ? ORDER BY id", (at,)):
                yield row[0], row
                at = row[0] + 1
            return
        except sqlite3.DatabaseError:
            pass  # somewhere after the last row that came, or after the one that would have been next
        found = False
        while at <= last and not found:
            try:
                row = damaged.execute(f"{read} = ?", (at,)).fetchone()
                found = row is not None
                if found:
                    yield at, row
            except sqlite3.DatabaseError:
                yield at, None
            at += 1


def _last(damaged: sqlite3.Connection, table: str) -> int:
    """The last id, or some way past it where its page is damaged."""
    last = 0
    for order in ("DESC", "ASC"):
        try:
            for (last,) in damaged.execute(f"SELECT id FROM {table} NOT INDEXED ORDER BY id {order}"):
                if order == "DESC":
                    return int(last)
            return int(last)
        except sqlite3.DatabaseError:
            continue
    return int(last) + _GIVE_UP


def _sound(table: str, row: dict[str, object]) -> bool:
    """Whether a row that could be read is what was written: noise in the middle of a text looks well to SQLite."""
    if table == "program":
        code = row["code"]
        return isinstance(code, str) and row["hash"] in (program_hash(code), hash_of_schema_1(code))
    return mending.json_is_whole(table, row)
