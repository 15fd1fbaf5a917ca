"""Reading in SQL text: small helpers, and what commands that only read need of a search.

The schema's classes (SQLModel, pydantic) take longer to import than ``ls`` takes to run, so nothing here, nor in
``snapshot``, ``overview`` and ``show``, imports ``tables``. The SQL is what SQLite and PostgreSQL share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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


# -------------------------------------------------------------------------------------------------- the ledger


@dataclass(frozen=True)
class Spent:
    """Settled calls (``unknown`` at their reservations), and what the open ones have reserved."""

    calls: int
    cost_usd: float
    input_tokens: int
    output_tokens: int
    tokens: int  # input and output, and the reservations of calls that ended as unknown
    reserved_usd: float
    reserved_tokens: int
    unpriced: int  # calls whose price is not known: not in cost_usd


_SPENT = """
SELECT coalesce(sum(CASE WHEN state <> 'abandoned' THEN 1 END), 0), coalesce(sum(cost_usd), 0.0),
       coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(tokens), 0),
       coalesce(sum(CASE WHEN state <> 'abandoned' AND cost_usd IS NULL THEN 1 END), 0)
FROM completion WHERE search_id = :search AND state NOT IN ('planned', 'sent')
"""
_RESERVED = """
SELECT coalesce(sum(reserve_usd), 0.0), coalesce(sum(reserve_tokens), 0)
FROM completion WHERE search_id = :search AND state IN ('planned', 'sent')
"""


def spent(connection: Connection, search: int) -> Spent:
    """What *search*'s proposer calls cost, and what those in flight may still cost."""
    ((calls, cost, input_, output, tokens, unpriced),) = rows(connection, _SPENT, search=search)
    ((reserved, reserved_tokens),) = rows(connection, _RESERVED, search=search)
    return Spent(calls, float(cost), input_, output, tokens, float(reserved), reserved_tokens, unpriced)


_BY_MODEL = """
SELECT model, count(*), coalesce(sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END), 0), coalesce(sum(cost_usd), 0.0)
FROM completion WHERE search_id = :search AND state NOT IN ('planned', 'sent', 'abandoned') GROUP BY model
"""


def spent_by_model(connection: Connection, search: int) -> dict[str, tuple[int, int, float]]:
    """model -> calls that are over, those among them whose price is not known, dollars."""
    return {
        model: (calls, unpriced, float(dollars))
        for model, calls, unpriced, dollars in rows(connection, _BY_MODEL, search=search)
    }
