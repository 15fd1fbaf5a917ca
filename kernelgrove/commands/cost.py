"""``cost``: what the proposers of a search have cost, by what one asks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import UsageError
from . import options


def cost(
    search: Annotated[
        str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="KEYS", help="model, kind, outcome, node, call: any of them, comma between.")
    ] = "model,kind,outcome",
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Show what the proposers of a search have cost.

    Dollars and tokens by model, kind of job and outcome, and dollars for each time the best kernel got better. Calls
    whose price is not known are flagged, never taken for free.
    """
    from ..storage import open_store
    from ..storage.costs import KEYS, cost_document
    from ..storage.documents import find_search

    keys = tuple(key.strip() for key in by.split(",") if key.strip())
    wrong = next((key for key in keys if key not in KEYS), None)
    if wrong is not None or not keys or len(set(keys)) < len(keys):
        raise UsageError(f"--by {by!r} is not a list of {', '.join(KEYS)}.", "Write --by model,kind.")
    with options.output(json) as out, open_store(db) as store:
        document = cost_document(store, find_search(store, search), keys)
        if json:
            out.emit(document)
            return
        _put(document)


def _put(document: dict[str, Any]) -> None:
    from ..render import put, table

    by = document["by"]
    total = document["total"]
    if not total["calls"]:
        print(f"{document['search']}: no proposer has been called")
        return
    headings = (*by, "calls", "input", "cached", "output", "reasoning", "cost")
    rows = [(*(group[key] for key in by), *_figures(group)) for group in document["groups"]]
    rows.append((*("all" if i == 0 else "" for i in range(len(by))), *_figures(total)))
    put(table(headings, rows, right=headings[len(by) :]))
    print()
    for line in _lines(document, total):
        print(line)


def _figures(group: dict[str, Any]) -> tuple[object, ...]:
    tokens = group["tokens"]
    return group["calls"], tokens["input"], tokens["cached"], tokens["output"], tokens["reasoning"], _money(group)


def _money(group: dict[str, Any]) -> str:
    if group["unpriced"] == group["calls"]:
        return "unknown"
    known = f"${group['cost_usd']:.4f}"
    return f"{known} + {group['unpriced']} unknown" if group["unpriced"] else known


def _lines(document: dict[str, Any], total: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if total["unpriced"]:
        lines.append(
            f"{total['unpriced']} calls have no known price and are not in the sum: "
            "add it to ~/.config/kernelgrove/prices.toml"
        )
    if total["tokens"]["unknown"]:
        lines.append(f"calls that were cut off are charged at their reservation ({total['tokens']['unknown']} tokens)")
    if total["estimated"]:
        lines.append(f"{total['estimated']} calls came without a count: their tokens are estimated here")
    if document["reserved_usd"]:
        lines.append(f"${document['reserved_usd']:.4f} are reserved for calls in flight")
    if document["budget_usd"] is not None:
        lines.append(f"${total['cost_usd']:.4f} of ${document['budget_usd']:g}")
    if document["budget_tokens"] is not None:
        lines.append(f"{document['charged_tokens']} of {document['budget_tokens']} tokens")
    better = document["improvements"]
    if better:
        times = "once" if better == 1 else f"{better} times"
        each = f": ${document['usd_per_improvement']:.4f} each" if total["cost_usd"] > 0 else ""
        lines.append(f"the best time fell {times}{each}")
    return lines
