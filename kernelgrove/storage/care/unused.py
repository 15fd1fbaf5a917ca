"""``gc``: drops programs, devices and problems that nothing refers to. No fact is ever dropped.

What refers to a row is read from the schema, so that a table which comes later counts by itself; and from the few
columns that name a row without a foreign key.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection

from ..connect import translated
from ..queries import rows
from ..store import SqliteStore

#: table -> SQL of conditions under which a row ``t`` is named without a foreign key
_NAMED = {
    "program": ("EXISTS (SELECT 1 FROM job j WHERE json_extract(j.payload, '$.program') = t.hash)",),
    "device": (),
    "problem": tuple(
        f"EXISTS (SELECT 1 FROM {table} r WHERE r.problem_digest = t.digest)"
        for table in ("search", "evaluation", "completion")
    ),
}
_LABEL = {"program": "substr(t.hash, 1, 12)", "device": "t.name || ' for ' || t.gpu", "problem": "t.name"}


@dataclass(frozen=True)
class Unused:
    """One row that nothing refers to: its table, its id and what a person knows it by."""

    table: str
    id: int
    label: str


def drop_unused(store: SqliteStore, *, dry_run: bool = False) -> list[Unused]:
    """Drop what nothing refers to, in one transaction; with *dry_run* only say what that would be."""
    if dry_run:
        with store.read() as connection:
            return _find(connection)
    with store.write() as connection:
        found = _find(connection)
        for row in found:
            connection.exec_driver_sql(f"DELETE FROM {row.table} WHERE id = ?", (row.id,))
    return found


def vacuum(store: SqliteStore) -> tuple[int, int]:
    """Give the file's free pages back to the file system; its size before and after, bytes. Raises StoreError where
    another process is writing, or there is no room for the copy that SQLite makes."""
    with store.write():  # the checks that any write begins with
        pass
    path = store.location.path
    with translated(store.location.shown), closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        before = path.stat().st_size
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return before, path.stat().st_size


def _find(connection: Connection) -> list[Unused]:
    found = []
    for table, named in _NAMED.items():
        kept = " OR ".join([*_references(connection, table), *named]) or "0"
        sql = f"SELECT t.id, {_LABEL[table]} FROM {table} t WHERE NOT ({kept}) ORDER BY t.id"
        found += [Unused(table, id_, label) for id_, label in rows(connection, sql)]
    return found


def _references(connection: Connection, target: str) -> list[str]:
    """A condition for each foreign key of the schema that points to the row ``t`` of *target*."""
    tables = [name for (name,) in rows(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    conditions = []
    for table in tables:
        for key in connection.exec_driver_sql(f'PRAGMA foreign_key_list("{table}")').all():
            if key[2] == target:
                conditions.append(f'EXISTS (SELECT 1 FROM "{table}" r WHERE r."{key[3]}" = t."{key[4] or "id"}")')
    return conditions
