"""Running a query, or SQL of the user's own, where nothing can be written.

Three walls: the connection is opened read-only, ``query_only`` is on, and an authorizer refuses what neither of them
does: other files (ATTACH), temporary tables, settings, transactions. VACUUM INTO cannot run inside of a transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ...errors import UsageError
from ..ids import KINDS
from ..ids import parse as parse_id
from ..store import SqliteStore
from .conditions import Parameter
from .families import families
from .fields import Facts
from .lexer import fault
from .parser import parse
from .stages import Statement, Wanted, translate
from .syntax import Place, places


@dataclass(frozen=True)
class Answer:
    """Columns, rows of plain values (None where there is none), and the statement that gave them."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    sql: str
    values: tuple[Parameter, ...] = ()


_PLAIN, _NO_FACTS = Wanted(), Facts()


def ask(
    store: SqliteStore, text: str, wanted: Wanted = _PLAIN, facts: Facts = _NO_FACTS, *, dry: bool = False
) -> Answer:
    """Answer the query *text*; with *dry* only its SQL, no rows. Raises UsageError that points at what is wrong."""
    query = parse(text)
    statement = translate(query, wanted)
    with store.read() as connection:
        for place in places(query):
            _must_be_there(connection, place)
        sql, values = _with_facts(connection, statement, facts)
        if dry:
            return Answer(statement.columns, [], sql, values)
        _, rows = _execute(connection, sql, values)
    return Answer(statement.columns, rows, sql, values)


def _must_be_there(connection: Connection, place: Place) -> None:
    typed = place.id.text or ""
    letter, number = parse_id(typed)
    table = KINDS[letter]
    if connection.exec_driver_sql(f"SELECT 1 FROM {table} WHERE id = ?", (number,)).first() is None:
        raise fault(place.id.position, typed, f"there is no such {table} in this database", "See `kernelgrove tree`.")


def ask_raw(store: SqliteStore, sql: str) -> Answer:
    """Run one statement of SQL that reads. Raises UsageError where it would write, or is wrong."""
    with store.read() as connection:
        columns, rows = _execute(connection, sql, ())
    return Answer(columns, rows, sql)


_ARCHITECTURES = (
    "architectures(gpu, name, short, arch) AS (SELECT key, json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " json_extract(value, '$[2]') FROM json_each(?))"
)
_FAMILIES = "families(problem, names) AS (SELECT CAST(key AS INTEGER), value FROM json_each(?))"


def _with_facts(connection: Connection, statement: Statement, facts: Facts) -> tuple[str, tuple[Parameter, ...]]:
    """The statement's SQL with the tables of outside facts that it reads put before it."""
    tables: list[str] = []
    values: list[Parameter] = []
    if "architectures" in statement.sql.facts:
        tables.append(_ARCHITECTURES)
        values.append(json.dumps(facts.architectures))
    if "families" in statement.sql.facts:
        sources = {row.id: row.source for row in connection.exec_driver_sql("SELECT id, source FROM problem")}
        tables.append(_FAMILIES)
        values.append(json.dumps({str(id): ", ".join(families(source)) for id, source in sources.items()}))
    if not tables:
        return statement.sql.text, statement.sql.values
    return f"WITH {', '.join(tables)} {statement.sql.text}", (*values, *statement.sql.values)


# --------------------------------------------------------------------------------------------------- reading

#: Reading, and what SQLite does within itself to open json_each or a full-text table; a CREATE TABLE or INSERT that a
#: user writes passes here and is refused by the read-only connection.
_PASS = frozenset(
    (
        *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE),
        *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE),
    )
)
#: Pragmas that only tell; the first is what full-text search asks for by itself.
_TELL = frozenset(
    "data_version table_info table_xinfo table_list index_list index_info foreign_key_list user_version".split()
)


def _authorize(action: int, one: str | None, two: str | None, database: str | None, trigger: str | None) -> int:
    if action in _PASS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and one in _TELL and (two is None or one != "user_version"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _execute(
    connection: Connection, sql: str, values: tuple[Parameter, ...]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and rows of one reading statement. Raises UsageError; what is wrong with the file stays as it is."""
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    driver.set_authorizer(_authorize)
    try:
        cursor = driver.execute(sql, values)
        found = cursor.fetchall()
    except (sqlite3.Warning, sqlite3.ProgrammingError, UnicodeEncodeError, ValueError) as error:
        raise UsageError(
            f"The SQL cannot be run: {_one_line(error)}.", "Give one statement, without parameters."
        ) from None
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY) or "VACUUM" in str(error):
            raise UsageError("A query only reads, and this SQL would do more.", "Write a SELECT.") from None
        if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE):
            raise UsageError(f"The SQL cannot be run: {_one_line(error)}.", "`--sql` shows SQL that can.") from None
        raise
    finally:
        driver.set_authorizer(None)
    if cursor.description is None:
        raise UsageError("The SQL holds no statement.", "Write a SELECT.")
    return tuple(column[0] for column in cursor.description), found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
