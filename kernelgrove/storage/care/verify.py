"""``verify``: is everything in the file as it must be? Only reads; a search may go on writing meanwhile.

First the file itself (SQLite's own check of every page, index and constraint), then what SQLite cannot know: that a
program's hash is that of its text, that full text is in step with what it indexes, and that no row is in a state
which the job machine never leaves behind.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection

from ...errors import StoreError
from ...model import digest
from ..connect import connect_reader, translated
from ..programs import hash_of_schema_1, program_hash
from ..queries import decode, rows
from ..store import SqliteStore
from .states import IMPOSSIBLE

#: Lines that one check may give; the rest is counted.
MOST = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which check found it, and a sentence."""

    check: str
    says: str


@dataclass(frozen=True)
class Verdict:
    """``checks``: those that were made, in order. ``notes``: what could not be checked here, and why."""

    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


_Check = Callable[[Connection], Iterator[str]]


def verify(store: SqliteStore) -> Verdict:
    """Check *store* from the pages up. Damage is a finding, not an error; raises StoreError only where the file
    cannot be read at all."""
    notes: list[str] = []
    file, full_text = _on_a_copy(store, notes)
    checks: list[tuple[str, _Check]] = [
        ("references", _references),
        ("programs", lambda connection: _programs(connection, notes)),
        ("problems", _problems),
        *((state.name, lambda connection, sql=state.sql: _listed(connection, sql)) for state in IMPOSSIBLE),
    ]
    findings = [Finding("file", says) for says in _at_most(file)]
    for name, check in checks:
        findings += [Finding(name, says) for says in _tried(check, store)]
    findings += [Finding("full text", says) for says in full_text or ()]
    names = ["file", *(name for name, _ in checks), *(["full text"] if full_text is not None else [])]
    return Verdict(tuple(names), tuple(findings), tuple(notes))


def _at_most(lines: list[str]) -> list[str]:
    return lines if len(lines) <= MOST else [*lines[:MOST], f"and {len(lines) - MOST} more like these"]


def _tried(check: _Check, store: SqliteStore) -> list[str]:
    """The lines of *check*, in a transaction of its own, which damage ends; what it could not read is a line too."""
    found: list[str] = []
    unread: list[str] = []
    try:
        with store.read() as connection:
            for says in check(connection):
                found.append(says)
    except StoreError as error:
        unread.append(f"cannot be read: {error.cause}")
    except (UnicodeDecodeError, ValueError) as error:  # damaged text or JSON that SQLite's own check let pass
        unread.append(f"cannot be read: {error}")
    return _at_most(found) + unread


def _references(connection: Connection) -> Iterator[str]:
    columns: dict[tuple[str, int], str] = {}
    for table, rowid, parent, key in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        if (table, key) not in columns:
            listed = connection.exec_driver_sql(f'PRAGMA foreign_key_list("{table}")')
            columns |= {(table, row[0]): row[3] for row in listed}
        yield f"{table} {rowid}: {columns.get((table, key), 'a column')} refers to a {parent} that is not there"


def _listed(connection: Connection, sql: str) -> Iterator[str]:
    for (says,) in rows(connection, sql):
        yield str(says)


def _programs(connection: Connection, notes: list[str]) -> Iterator[str]:
    """A program that a file of schema 1 had keeps the hash which that gave it, of the parsed and printed program.
    Another minor version of Python may print it otherwise, so a difference is only held against a grove that this
    version alone has written."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    stored = {decode(software).get("python", "") for (software,) in rows(connection, "SELECT software FROM device")}
    others = sorted(version for version in stored if version and not f"{version}.".startswith(f"{here}."))
    differ = 0
    for id_, hash_, code in connection.exec_driver_sql("SELECT id, hash, code FROM program ORDER BY id"):
        if hash_ in (program_hash(code), hash_of_schema_1(code)):
            continue
        if others:
            differ += 1
        else:
            yield f"program {id_} is not the text that its hash {hash_[:12]} was made from"
    if differ:
        notes.append(
            f"{differ} programs have another hash under Python {here}; Python {', '.join(others)} wrote in this grove "
            "too, so check with that one"
        )


def _problems(connection: Connection) -> Iterator[str]:
    for id_, name, kept, source in rows(connection, "SELECT id, name, digest, source FROM problem ORDER BY id"):
        if digest(source) != kept:
            yield f"problem {id_} ({name}) is not the text that its digest {kept[:12]} was made from"


def _on_a_copy(store: SqliteStore, notes: list[str]) -> tuple[list[str], list[str] | None]:
    """What is wrong with the file itself, and with full text (None: not checked, since the file is damaged).

    On a private copy: SQLite leaves CHECK constraints out where it may not write, and FTS5 compares its index with
    the text only in a statement that counts as writing. Raises StoreError where the copy cannot be made.
    """
    shown = store.location.shown
    with (
        translated(shown),
        closing(connect_reader(store.location.path)) as source,
        closing(sqlite3.connect("", isolation_level=None)) as copy,  # "" is a temporary file, which SQLite deletes
    ):
        try:
            source.backup(copy)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise  # no room for the copy, a failing disk
            notes.append("full text was not checked, since the file is damaged")
            return [f"cannot be read: {error}"], None
        try:
            file = _file(copy)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            file = [f"cannot be checked: {error}"]
        if file:
            notes.append("full text was not checked, since the file is damaged")
            return file, None
        return [], _full_text(copy)


def _file(copy: sqlite3.Connection) -> list[str]:
    lines = [str(line) for (line,) in copy.execute("PRAGMA integrity_check")]
    return [part for line in lines if line != "ok" for part in line.splitlines() if part and part[:3] != "***"]


def _full_text(copy: sqlite3.Connection) -> list[str]:
    found: list[str] = []
    tables = copy.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%fts5%'").fetchall()
    for (table,) in tables:
        try:
            copy.execute(f'INSERT INTO "{table}"("{table}", rank) VALUES (\'integrity-check\', 1)')
        except sqlite3.DatabaseError:
            found.append(
                f"{table} is not in step with the text it indexes: rebuild it with "
                f"INSERT INTO {table}({table}) VALUES ('rebuild')"
            )
    return found
