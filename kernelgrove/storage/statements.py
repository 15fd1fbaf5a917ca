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
    #: each value in the driver's order: its name (None: it stands in the statement), how it is made ready, or it itself
    values: tuple[tuple[str | None, _Process, Any], ...]
    names: tuple[str, ...] | None  # of all of them, where the driver takes them by name
    given: int  # how many names have to be given
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

    def _run(self, connection: Connection, values: Mapping[str, Any]) -> tuple[_Compiled, Any]:
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name) or self._compile(dialect)
        assert len(values) == compiled.given, f"{compiled.given} values are wanted: {sorted(values)}"
        ready = [
            fixed if name is None else values[name] if process is None else process(values[name])
            for name, process, fixed in compiled.values
        ]
        cursor = connection.connection.cursor()
        names = compiled.names
        cursor.execute(compiled.sql, ready if names is None else dict(zip(names, ready, strict=True)))
        return compiled, cursor

    def _compile(self, dialect: Dialect) -> _Compiled:
        made = self._clause.compile(dialect=dialect)
        assert isinstance(made, SQLCompiler)
        left_out = [str(column) for column in (*made.insert_prefetch, *made.update_prefetch)]
        assert not left_out, f"defaults are filled in by nobody here: give {left_out}"
        names = made.positiontup if made.positional else list(made.params)
        assert names is not None
        values = [self._value(made, name, dialect) for name in names]
        results = tuple(_result(column.type, dialect) for column in getattr(self._clause, "exported_columns", ()))
        compiled = _Compiled(
            made.string,
            tuple(values),
            None if made.positional else tuple(names),
            len({name for name, _, _ in values if name is not None}),
            results if any(results) else None,
        )
        self._compiled[dialect.name] = compiled
        return compiled

    @staticmethod
    def _value(made: SQLCompiler, name: str, dialect: Dialect) -> tuple[str | None, _Process, Any]:
        param = made.binds[name]
        process: _Process = param.type.dialect_impl(dialect).bind_processor(dialect)
        if param.required:
            return name, process, None
        value = made.params[name]
        return None, None, value if process is None else process(value)


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
