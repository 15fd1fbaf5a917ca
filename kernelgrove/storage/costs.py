"""What proposers have cost, by whatever one asks: the document of ``kernelgrove cost``. Only reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..model import TreeView
from .ids import show
from .overview import search_row
from .queries import decode, rows
from .snapshot import take
from .spending import spent
from .store import SqliteStore

#: What calls can be grouped by.
KEYS = ("model", "kind", "outcome", "node", "call")

_CALLS = """
SELECT c.id, c.model, c.kind, c.state, c.input_tokens, c.output_tokens, c.tokens, c.cost_usd, c.proposal, j.node_id
FROM completion c JOIN job j ON j.id = c.job_id
WHERE c.search_id = :search AND c.state NOT IN ('planned', 'sent', 'abandoned') ORDER BY c.id
"""


@dataclass
class _Sum:
    calls: int = 0
    unpriced: int = 0
    estimated: int = 0
    cost_usd: float = 0.0
    tokens: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("input", "cached", "cache_writes", "output", "reasoning", "unknown"), 0)
    )

    def add(self, row: Any, usage: dict[str, Any]) -> None:
        self.calls += 1
        self.unpriced += row.cost_usd is None
        self.estimated += bool(usage.get("estimated"))
        self.cost_usd += row.cost_usd or 0.0
        self.tokens["input"] += row.input_tokens or 0
        self.tokens["output"] += row.output_tokens or 0
        self.tokens["cached"] += usage.get("cached_tokens", 0)
        self.tokens["cache_writes"] += usage.get("cache_write_tokens", 0)
        self.tokens["reasoning"] += usage.get("reasoning_tokens", 0)
        if row.state == "unknown":
            self.tokens["unknown"] += row.tokens or 0

    def document(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "tokens": dict(self.tokens),
            "estimated": self.estimated,
            "unpriced": self.unpriced,
            "cost_usd": self.cost_usd,
        }


def cost_document(store: SqliteStore, search: int, by: Iterable[str] = ("model", "kind", "outcome")) -> dict[str, Any]:
    """Calls of *search* grouped by *by* (of ``KEYS``), dearest first, and in all.

    ``cost_usd`` is the sum over calls with a known price; ``unpriced`` says how many have none. Cached tokens are among
    the input, reasoning tokens among the output; ``unknown`` are the reserved tokens of calls that were cut off.
    ``improvements`` counts implementations that were the fastest when they were judged, the first included;
    ``usd_per_improvement`` is None without any. Raises NotFound.
    """
    keys = tuple(by)
    with store.read() as connection:
        row = search_row(connection, search)
        calls = rows(connection, _CALLS, search=search)
        ledger, _ = spent(connection, search)
        improvements = _improvements(take(connection, search).view)
    groups: dict[tuple[Any, ...], _Sum] = {}
    total = _Sum()
    for call in calls:
        parsed = decode(call.proposal) or {}
        usage = parsed.get("usage") or {}
        named = {
            "model": call.model,
            "kind": call.kind,
            "outcome": parsed.get("failure") or call.state,
            "node": None if call.node_id is None else show("n", call.node_id),
            "call": call.id,
        }
        groups.setdefault(tuple(named[key] for key in keys), _Sum()).add(call, usage)
        total.add(call, usage)
    dearest = sorted(groups.items(), key=lambda pair: (-pair[1].cost_usd, -pair[1].calls))
    return {
        "search": show("s", search),
        "problem": row["problem"],
        "target": row["target"],
        "by": list(keys),
        "groups": [{**dict(zip(keys, values, strict=True)), **found.document()} for values, found in dearest],
        "total": total.document(),
        "charged_tokens": ledger.tokens,
        "reserved_usd": ledger.reserved_usd,
        "budget_usd": row["options"].get("budget_usd"),
        "budget_tokens": row["options"].get("budget_tokens"),
        "improvements": improvements,
        "usd_per_improvement": total.cost_usd / improvements if improvements else None,
    }


def _improvements(view: TreeView) -> int:
    """How often the best time of the search fell, in the order in which implementations were judged."""
    times = sorted(
        (made.evaluation.id, made.evaluation.time_ms)
        for made in view.judged()
        if made.ok and made.evaluation is not None and made.evaluation.time_ms is not None
    )
    best: float | None = None
    count = 0
    for _, time in times:
        if time is not None and (best is None or time < best):
            best, count = time, count + 1
    return count
