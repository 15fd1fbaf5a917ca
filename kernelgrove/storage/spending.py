"""What a search's proposer calls cost, summed up from the ledger.

A controller asks at every step, so the sums of settled calls, which never change, are kept and only what was settled
since is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from .statements import Statement


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


@dataclass(frozen=True)
class Settled:
    """Sums of the settled calls of a search up to the completion *last*, less those that were *open* then."""

    calls: int
    cost_usd: float
    input_tokens: int
    output_tokens: int
    tokens: int
    unpriced: int
    last: int
    open: frozenset[int]


_SUMS = """
coalesce(sum(CASE WHEN state <> 'abandoned' THEN 1 END), 0), coalesce(sum(cost_usd), 0.0),
coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(tokens), 0),
coalesce(sum(CASE WHEN state <> 'abandoned' AND cost_usd IS NULL THEN 1 END), 0)
"""
_SETTLED = "state NOT IN ('planned', 'sent')"
_ALL = Statement(text(f"SELECT {_SUMS} FROM completion WHERE search_id = :search AND {_SETTLED}"))
_NEWER = Statement(text(f"SELECT {_SUMS} FROM completion WHERE search_id + 0 = :search AND id > :after AND {_SETTLED}"))
_ONE = Statement(text(f"SELECT {_SUMS} FROM completion WHERE id = :id AND {_SETTLED}"))
_OPEN = Statement(
    text(
        "SELECT id, reserve_usd, reserve_tokens FROM completion"
        " WHERE search_id = :search AND state IN ('planned', 'sent')"
    )
)
_LAST = Statement(text("SELECT coalesce(max(id), 0) FROM completion"))


def spent(connection: Connection, search: int, before: Settled | None = None) -> tuple[Spent, Settled]:
    """What *search* has spent, and what to give as *before* the next time."""
    rows = _OPEN.rows(connection, search=search)
    open_ = frozenset(id_ for id_, _, _ in rows)
    last = _LAST.value(connection)
    if before is None:
        sums = _ALL.rows(connection, search=search)
    else:
        kept = (before.calls, before.cost_usd, before.input_tokens, before.output_tokens, before.tokens)
        sums = [(*kept, before.unpriced), *_NEWER.rows(connection, search=search, after=before.last)]
        sums += [row for id_ in before.open - open_ for row in _ONE.rows(connection, id=id_)]
    calls, cost, input_, output, tokens, unpriced = _added(sums)
    settled = Settled(calls, cost, input_, output, tokens, unpriced, last, open_)
    reserved, reserved_tokens = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return Spent(calls, cost, input_, output, tokens, float(reserved), reserved_tokens, unpriced), settled


def _added(rows: Iterable[Any]) -> tuple[int, float, int, int, int, int]:
    calls, cost, input_, output, tokens, unpriced = (sum(column) for column in zip(*rows, strict=True))
    return calls, float(cost), input_, output, tokens, unpriced


_BY_MODEL = Statement(
    text(
        "SELECT model, count(*), coalesce(sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END), 0),"
        " coalesce(sum(cost_usd), 0.0) FROM completion"
        " WHERE search_id = :search AND state NOT IN ('planned', 'sent', 'abandoned') GROUP BY model"
    )
)


def spent_by_model(connection: Connection, search: int) -> dict[str, tuple[int, int, float]]:
    """model -> calls that are over, those among them whose price is not known, dollars."""
    return {
        model: (calls, unpriced, float(dollars))
        for model, calls, unpriced, dollars in _BY_MODEL.rows(connection, search=search)
    }
