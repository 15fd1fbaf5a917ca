"""Our own JSON lines (``exporters.lines``) back into a store: every row, under new ids, in one transaction.

Figures keep the basis they were exported with: the file is a part of a grove, as a copy of the database would be.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Float, Integer, Table, func, insert, select
from sqlalchemy.exc import IntegrityError

from ...errors import StoreError
from ...model import Instance, digest
from .. import migrate
from ..columns import JsonText, Real
from ..evaluations import repeat_verdicts
from ..exporters.lines import FORMAT, SHARED, TABLES, VERSION, export, renumbered
from ..ids import show
from ..store import SqliteStore
from ..tables import REPEATED, metadata
from ..tables import Table as Model
from .described import Imported
from .entries import BrokenFile, entry_of, field, parse_json

_BATCH = 200
_INSTANCE = {f.name for f in fields(Instance)}

#: Columns whose JSON is a list; that of the others is an object.
_LISTS = {
    (model.__tablename__, name)
    for model in Model.__subclasses__()
    for name, info in model.model_fields.items()
    if "list[" in str(info.annotation)
}


class _AlreadyHere(Exception):
    """Takes the transaction back: the searches of the file are these."""

    def __init__(self, searches: tuple[int, ...]) -> None:
        self.searches = searches


def load(store: SqliteStore, lines: Iterable[bytes], shown: str) -> Imported:
    """Import the file whose *lines* these are; messages call it *shown*.

    A file whose searches are all here, unchanged, is not written again. Raises BrokenFile, which names the line and
    the entry; StoreError for a file of a newer version, or one of whose searches only some are here.
    """
    try:
        with store.write() as connection:
            # The tables refer to each other in circles. SQLite checks the references when the transaction ends.
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            made = _Reader(connection, shown).read(lines)
            _refuse_known(connection, made)
            return Imported(made)
    except _AlreadyHere as here:
        return Imported(here.searches, already=True)


class _Reader:
    """Reads one file into one transaction."""

    def __init__(self, connection: Connection, shown: str) -> None:
        self.connection = connection
        self.shown = shown
        self.schema = migrate.SCHEMA
        self.rows: dict[str, int] = {}  # table -> how many the file says it has
        self.seen = dict.fromkeys(TABLES, 0)
        self.first = {
            name: (connection.execute(select(func.max(metadata.tables[name].c.id))).scalar() or 0) + 1
            for name in TABLES
        }
        self.shared: dict[tuple[str, int], int] = {}  # rows that may have been here before: (table, id) -> id here
        self.hashes: set[str] = set()
        self.belongs: dict[str, list[int]] = {"node": [], "implementation": []}  # id - 1 -> its search, in the file
        self.rooted: set[int] = set()
        self.batch: list[tuple[str, dict[str, Any]]] = []
        self.where = shown

    def read(self, lines: Iterable[bytes]) -> tuple[int, ...]:
        table = ""
        for number, line in enumerate(lines, 1):
            self.where = f"{self.shown}, line {number}"
            if not line.endswith(b"\n"):
                raise BrokenFile(self.where, "the line has no end: the file was cut off")
            entry = entry_of(parse_json(line, self.where), self.where)
            if number == 1:
                self._header(entry)
                continue
            name = field(entry, "table", str, self.where)
            if name not in self.seen:
                raise BrokenFile(self.where, f"there is no table {name!r}")
            if name != table:
                self._flush(table)
                if table and TABLES.index(name) < TABLES.index(table):
                    raise BrokenFile(self.where, f"a {name} after rows of {table}")
                table = name
            self._row(metadata.tables[name], entry)
        self._flush(table)
        self._complete()
        repeat_verdicts(self.connection, self.first["implementation"])
        return tuple(range(self.first["search"], self.first["search"] + self.seen["search"]))

    def _header(self, entry: dict[str, Any]) -> None:
        if entry.get("format") != FORMAT:
            raise BrokenFile(self.where, f"not a {FORMAT} file")
        version = field(entry, "version", int, self.where)
        self.schema = field(entry, "schema", int, self.where)
        if version > VERSION or self.schema > migrate.SCHEMA:
            raise StoreError(f"{self.shown} was written by a newer KernelGrove (schema {self.schema}):", "upgrade.")
        rows = field(entry, "rows", dict, self.where)
        self.rows = {name: field(rows, name, int, f"{self.where}, rows") for name in rows}
        unknown = sorted(set(self.rows) - set(TABLES))
        if unknown:
            raise BrokenFile(self.where, f"there is no table {unknown[0]!r}")

    def _complete(self) -> None:
        if not self.rows:
            raise BrokenFile(self.shown, "the file is empty")
        for name, wanted in self.rows.items():
            if self.seen[name] != wanted:
                raise BrokenFile(
                    self.shown,
                    f"the file was cut off: it has {self.seen[name]} of the {wanted} {name} rows that line 1 promises",
                )
        for search in range(1, self.seen["search"] + 1):
            if search not in self.rooted:
                raise BrokenFile(self.shown, f"search {search} has no root node")

    # one row

    def _row(self, table: Table, entry: dict[str, Any]) -> None:
        name = table.name
        self.seen[name] += 1
        id_ = field(entry, "id", int, self.where)
        self.where += f" ({name} {id_})"
        if id_ != self.seen[name] or id_ > self.rows.get(name, 0):
            raise BrokenFile(self.where, f"the id should be {self.seen[name]}, of {self.rows.get(name, 0)}")
        row = self._checked(table, entry)
        self._consistent(name, id_, row)
        row = renumbered(table, row, self._number)
        if name in SHARED:
            self.shared[name, id_] = self._share(table, row)
            return
        row["id"] = self.first[name] + id_ - 1
        self.batch.append((self.where, row))
        if len(self.batch) >= _BATCH:
            self._flush(name)

    def _checked(self, table: Table, entry: dict[str, Any]) -> dict[str, Any]:
        """The row's columns but its id, each of its type. Columns that a file of an older schema lacks are left to
        their defaults."""
        row: dict[str, Any] = {}
        for column in table.c:
            if column.name == "id" or (table.name == "implementation" and column.name in REPEATED):
                continue
            if column.name not in entry:
                if self.schema < migrate.SCHEMA and (column.nullable or column.default is not None):
                    continue
                raise BrokenFile(self.where, f"the key {column.name!r} is missing")
            value = entry[column.name]
            if value is None and column.nullable:
                row[column.name] = None
                continue
            wanted: type = str
            if isinstance(column.type, JsonText):
                wanted = list if (table.name, column.name) in _LISTS else dict
            elif isinstance(column.type, (Real, Float)):
                wanted = float
            elif isinstance(column.type, Integer):
                wanted = int
            found: Any = field(entry, column.name, wanted, self.where)
            row[column.name] = found
            if wanted is float and not math.isfinite(found):
                raise BrokenFile(self.where, f"{column.name!r} is {found}, which is no figure")
        unknown = sorted(set(entry) - set(row) - {"id", "table"})
        if unknown and not all(name in table.c for name in unknown):
            raise BrokenFile(self.where, f"there is no column {unknown[0]!r}")
        return row

    def _consistent(self, name: str, id_: int, row: Mapping[str, Any]) -> None:
        """What foreign keys cannot say: trees that hang together, and texts that are what their digests say."""
        if name == "problem" and digest(row["source"]) != row["digest"]:
            raise BrokenFile(self.where, "the digest is not that of the source")
        if name == "program":
            self.hashes.add(row["hash"])
        if name == "search" and set(row["instance"]) != _INSTANCE:
            raise BrokenFile(self.where, "'instance' does not have the keys of an instance")
        if "program" in row and row["program"] not in self.hashes:
            raise BrokenFile(self.where, f"the program {row['program'][:12]} is not in the file")
        if name in self.belongs:
            self.belongs[name].append(row["search_id"])
        if name == "node":
            parent, search = row["parent_id"], row["search_id"]
            if parent is None and search in self.rooted:
                raise BrokenFile(self.where, f"search {search} has two roots")
            if parent is None:
                self.rooted.add(search)
            elif not 1 <= parent < id_ or self.belongs["node"][parent - 1] != search:
                raise BrokenFile(self.where, f"its parent {parent} is not an earlier node of search {search}")
        if name == "implementation":
            node, search = row["node_id"], row["search_id"]
            if not 1 <= node <= self.seen["node"] or self.belongs["node"][node - 1] != search:
                raise BrokenFile(self.where, f"its node {node} is not a node of search {search}")

    def _number(self, table: str, old: int) -> int:
        if not 1 <= old <= self.rows.get(table, 0):
            raise BrokenFile(self.where, f"it refers to {table} {old}, which is not in the file")
        if table in SHARED:
            return self.shared[table, old]
        return self.first[table] + old - 1

    def _share(self, table: Table, row: dict[str, Any]) -> int:
        """The id of a shared row, written if it is new. A program is its hash: one that is here under another
        formatting keeps the text it has."""
        keys = {"program": ("hash",), "problem": tuple(k for k in row if k != "source")}.get(table.name, tuple(row))
        same = [table.c[key].is_not_distinct_from(row[key]) for key in keys]
        found = self.connection.execute(select(table.c.id).where(*same).limit(1)).scalar()
        if found is None:
            self.batch = [(self.where, row)]
            self._flush(table.name)
            found = self.connection.execute(select(func.max(table.c.id))).scalar_one()
        return int(found)

    def _flush(self, name: str) -> None:
        batch, self.batch = self.batch, []
        if not batch:
            return
        table = metadata.tables[name]
        try:
            with self.connection.begin_nested():
                self.connection.execute(insert(table), [row for _, row in batch])
        except IntegrityError:
            for where, row in batch:  # which of them it was
                try:
                    self.connection.execute(insert(table), row)
                except IntegrityError as error:
                    raise BrokenFile(where, f"the store refuses it: {error.orig}") from None


# ------------------------------------------------------------------------------------------- what is here already


def _refuse_known(connection: Connection, made: tuple[int, ...]) -> None:
    """Raises _AlreadyHere when each search was here before, row for row; StoreError when some were."""
    known = {search: _same(connection, search) for search in made}
    here = {search: found for search, found in known.items() if found is not None}
    if not here:
        return
    if len(here) < len(made):
        search, found = next(iter(here.items()))
        raise StoreError(
            f"Search {search - made[0] + 1} of the file is here already, as {show('s', found)}; nothing was imported.",
            "Export the others alone.",
        )
    raise _AlreadyHere(tuple(here.values()))


def _same(connection: Connection, search: int) -> int | None:
    """An older search whose export is that of *search*."""
    table = metadata.tables["search"]
    row = connection.execute(select(table).where(table.c.id == search)).one()
    alike = connection.execute(
        select(table.c.id).where(
            table.c.id < search,
            table.c.created_at == row.created_at,
            table.c.seed == row.seed,
            table.c.problem_digest == row.problem_digest,
        )
    ).scalars()
    candidates = list(alike)
    wanted = _fingerprint(connection, search) if candidates else None
    return next((other for other in candidates if _fingerprint(connection, other) == wanted), None)


def _fingerprint(connection: Connection, search: int) -> bytes:
    made = hashlib.sha256()
    for line in export(connection, [search]):
        made.update(line.encode())
    return made.digest()
