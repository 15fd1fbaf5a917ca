"""Reading in SQL text: small helpers, and what commands that only read need of a search.

The schema's classes (SQLModel, pydantic) take longer to import than ``ls`` takes to run, so nothing here, nor in
``snapshot``, ``overview`` and ``show``, imports ``tables``. The SQL is what SQLite and PostgreSQL share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from ..errors import NotFound

#: Columns that hold JSON, which SQL text gives back as it lies in the file.
_JSON = frozenset(
    "sizes software instance strategy_options models options time_stats baselines speedup advice detail payload"
    " proposal actions".split()
)


def rows(connection: Connection, sql: str, **values: Any) -> Sequence[Any]:
    """All rows of *sql*, ``:name`` replaced by values. JSON is not decoded."""
    return connection.execute(text(sql), values).all()


def first(connection: Connection, sql: str, **values: Any) -> dict[str, Any] | None:
    """The first row by column name, its JSON decoded; None when there is none."""
    row = connection.execute(text(sql), values).mappings().first()
    if row is None:
        return None
    return {name: decode(value) if name in _JSON else value for name, value in row.items()}


def value(connection: Connection, sql: str, **values: Any) -> Any:
    """The first column of the first row; None when there is none."""
    return connection.execute(text(sql), values).scalar()


def decode(stored: str | None) -> Any:
    return None if stored is None else json.loads(stored)


# ------------------------------------------------------------------------------------------------- searches


def latest(connection: Connection) -> int | None:
    """The newest search's id; None where there is none."""
    found = value(connection, "SELECT max(id) FROM search")
    return None if found is None else int(found)


def missing(connection: Connection, search: int) -> NotFound:
    """The error for a search that is not in this database; it says which are."""
    last = latest(connection)
    if last is None:
        return NotFound(f"There is no search s{search}: the database holds none.", "Start one with `kernelgrove run`.")
    return NotFound(f"There is no search s{search}: the latest is s{last}.", "See `kernelgrove ls`.")


def must_exist(connection: Connection, search: int) -> None:
    """Raises NotFound."""
    if value(connection, "SELECT id FROM search WHERE id = :search", search=search) is None:
        raise missing(connection, search)
