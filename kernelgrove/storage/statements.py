"""Statements that are built once and run many times: what a search does at every step.

SQLAlchemy takes ten times as long to build, compile and wrap a statement as SQLite takes to run it. A ``Statement`` is
written as any other, over the tables and so with their types, and is compiled once for each kind of database; running
it hands SQL and values to the driver. Figures are in docs/benchmarks/store.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Executable, Table, bindparam, insert, or_
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

_Process = Callable[[Any], Any] | None


@dataclass(frozen=True)
class _Compiled:
    sql: str
    positions: tuple[str, ...] | None  # names of the values in order; None where the driver takes them by name
    fixed: Mapping[str, Any]  # values that stand in the statement, as the driver takes them
    bind: Mapping[str, _Process]
    results: tuple[_Process, ...] | None  # None: every column comes as it is


class Statement:
    """A Core statement whose values are ``bindparam``s. Rows are plain tuples, JSON in them decoded."""

    def __init__(self, clause: ClauseElement) -> None:
        assert isinstance(clause, Executable)
        self._clause = clause
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        compiled, cursor = self._run(connection, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        cursor.close()
        if compiled.results is None:
            return found
        return [
            tuple(
                value if process is None else process(value)
                for value, process in zip(row, compiled.results, strict=True)
            )
            for row in found
        ]

    def stream(self, connection: Connection, **values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows as they come, for very many of them. JSON is not decoded."""
        _, cursor = self._run(connection, values)
        yield from cursor
        cursor.close()

    def first(self, connection: Connection, **values: Any) -> tuple[Any, ...] | None:
        """The first row; None where there is none."""
        found = self.rows(connection, **values)
        return found[0] if found else None

    def value(self, connection: Connection, **values: Any) -> Any:
        """The first column of the first row; None where there is none."""
        found = self.first(connection, **values)
        return None if found is None else found[0]

    def change(self, connection: Connection, **values: Any) -> int:
        """Run it; how many rows it changed."""
        _, cursor = self._run(connection, values)
        count: int = cursor.rowcount
        cursor.close()
        return count

    def each(self, connection: Connection, many: Iterable[Mapping[str, Any]]) -> None:
        """Run it for each of *many*."""
        for values in many:
            self.change(connection, **values)

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> tuple[_Compiled, Any]:
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name) or self._compile(dialect)
        bind = compiled.bind
        given = dict(compiled.fixed)
        for name, value in values.items():
            process = bind[name]
            given[name] = value if process is None else process(value)
        cursor = connection.connection.cursor()
        if compiled.positions is None:
            cursor.execute(compiled.sql, given)
        else:
            cursor.execute(compiled.sql, [given[name] for name in compiled.positions])
        return compiled, cursor

    def _compile(self, dialect: Dialect) -> _Compiled:
        made = self._clause.compile(dialect=dialect)
        assert isinstance(made, SQLCompiler)
        left_out = [str(column) for column in (*made.insert_prefetch, *made.update_prefetch)]
        assert not left_out, f"defaults are filled in by nobody here: give {left_out}"
        bind = {name: param.type.dialect_impl(dialect).bind_processor(dialect) for name, param in made.binds.items()}
        fixed: dict[str, Any] = {}
        for name, value in made.params.items():
            param = made.binds.get(name)
            if param is None or not param.required:
                process = bind.get(name)
                fixed[name] = value if process is None else process(value)
        results = tuple(_result(column.type, dialect) for column in getattr(self._clause, "exported_columns", ()))
        compiled = _Compiled(
            made.string,
            tuple(made.positiontup) if made.positional and made.positiontup is not None else None,
            fixed,
            bind,
            results if any(results) else None,
        )
        self._compiled[dialect.name] = compiled
        return compiled


def _result(type_: Any, dialect: Dialect) -> _Process:
    process: _Process = type_.dialect_impl(dialect).result_processor(dialect, None)
    return process


def adding(table: Table) -> Statement:
    """Insert a row, with a value for every column but its id, which it returns."""
    columns = [column for column in table.c if column.name != "id"]
    values = {column.name: bindparam(column.name, type_=column.type) for column in columns}
    return Statement(insert(table).values(values).returning(table.c.id))


def one_of(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """``column IN (values)``, with values that are known when the statement is built."""
    return or_(*(column == value for value in values))
