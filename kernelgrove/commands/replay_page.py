"""What ``replay`` prints for people: old and new figures side by side, each with its basis, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_Document = Mapping[str, Any]


def passed(evaluation: _Document | None) -> bool:
    return evaluation is not None and evaluation["outcome"] == "ok"


def put(document: _Document, *, named: bool = False) -> None:
    """Print old beside new, and what changed; *named* says of which search."""
    from .. import render

    rows: Sequence[_Document] = document["implementations"]
    if not rows:
        return
    print()
    if named:
        print(f"{document['search']} ({document['problem']})")
    columns = _columns(rows)
    shown = [[cell(row) for _, cell in columns] for row in rows]
    names = [heading for heading, _ in columns]
    render.put(render.table(names, shown, right=[n for n in names if "time" in n or "over" in n or "÷" in n]))
    print()
    for line in _notes(rows):
        print(line)


def _of(rows: Sequence[_Document], side: str) -> set[str]:
    """For what, and in which basis, the figures of one *side* are."""
    return {_where(row[side]) for row in rows if row[side] is not None and row[side]["time_ms"] is not None}


def _where(evaluation: _Document) -> str:
    measured = evaluation["basis"] == "measured"
    return f"{evaluation['basis']} {'on' if measured else 'for'} {evaluation['device_key' if measured else 'target']}"


def _columns(rows: Sequence[_Document]) -> list[tuple[str, Any]]:
    """Headings, and what each shows of a row. Old and new stand in columns of their own, each with its basis; times
    are divided only where both are of one basis."""
    from .. import render

    def times_of(side: str) -> Any:
        return lambda row: None if row[side] is None else _time(row[side], len(_of(rows, side)) > 1)

    def over(side: str, name: str) -> Any:
        def cell(row: _Document) -> str | None:
            value = None if row[side] is None else (row[side]["speedup"] or {}).get(name)
            return None if value is None else render.times(value)

        return cell

    columns: list[tuple[str, Any]] = [
        ("program", lambda row: row["implementation"] + (" (ancestor)" if row["why"] == "ancestor" else "")),
        ("rank", lambda row: f"{_or_dash(row['old'], 'rank')} → {_or_dash(row['new'], 'rank')}"),
        ("outcome", lambda row: f"{_or_dash(row['old'], 'outcome')} → {row['new']['outcome']}"),
    ]
    for side in ("old", "new"):
        basis = "".join(f" ({where})" for where in sorted(_of(rows, side)) if len(_of(rows, side)) == 1)
        columns.append((f"{side} time{basis}", times_of(side)))
    if any(_ratio(row) is not None for row in rows):
        columns.append(("new ÷ old", lambda row: None if _ratio(row) is None else f"{_ratio(row):.3f}"))
    names = [
        name
        for row in rows
        for side in ("old", "new")
        for name, value in ((row[side] or {}).get("speedup") or {}).items()
        if value is not None
    ]
    for name in dict.fromkeys(names):
        for side in ("old", "new"):
            columns.append((f"{side} over {'torch.compile' if name == 'compile' else name}", over(side, name)))
    return columns


def _or_dash(evaluation: _Document | None, name: str) -> object:
    return "-" if evaluation is None or evaluation[name] is None else evaluation[name]


def _time(evaluation: _Document, each: bool) -> str | None:
    from .. import render

    if evaluation["time_ms"] is None:
        return None
    return render.milliseconds(evaluation["time_ms"]) + (f" {_where(evaluation)}" if each else "")


def _ratio(row: _Document) -> float | None:
    """New time over old, where both are there and of one basis."""
    old, new = row["old"], row["new"]
    if old is None or old["basis"] != new["basis"] or not old["time_ms"] or not new["time_ms"]:
        return None
    return float(new["time_ms"]) / float(old["time_ms"])


def _notes(rows: Sequence[_Document]) -> list[str]:
    """What changed, and how far old and new may be compared."""
    by_text: dict[str, list[str]] = {}
    for row in rows:
        for change in row["changed"]:
            text = f"{change['what']} {_word(change['old'])} → {_word(change['new'])}"
            by_text.setdefault(text, []).append(row["implementation"])
    lines = [
        f"changed: {text}" + ("" if len(who) == len(rows) else f" ({', '.join(who)})") for text, who in by_text.items()
    ]
    if not lines:
        lines = ["changed: nothing (same device, precision, tolerance, versions and protocol)"]
    old, new = ({row[side]["basis"] for row in rows if row[side] is not None} for side in ("old", "new"))
    if old and old != new:
        lines.append(
            f"note: figures that are {' or '.join(sorted(old))} and figures that are {' or '.join(sorted(new))} are"
            " not compared: each stands in its own column, and a rank is among figures of one basis"
        )
    elif _of(rows, "old") and _of(rows, "old") != _of(rows, "new"):
        then, now = (" or ".join(sorted(_of(rows, side))) for side in ("old", "new"))
        lines.append(f"note: old figures are {then}, new ones {now}")
    kept = [row["implementation"] for row in rows if row["kept"]]
    if kept:
        lines.append(f"note: {', '.join(kept)} judged by an earlier replay by the same rules; --again judges anew")
    return lines


def _word(value: object) -> str:
    return "none" if value is None or value == "" else str(value)
