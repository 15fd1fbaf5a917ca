"""``lineage``, ``diff`` and ``stats``: how things in a grove compare. These never write and import no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from ..storage.sources import Source

_Search = Annotated[str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")]


def lineage(
    id: Annotated[str, typer.Argument(metavar="ID", help="An implementation (i3), or an idea (n2) for its best.")],
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Show the steps from the reference to an implementation.

    Each with its idea, time, speedup, and what it gained over the step before, all of one basis.
    """
    from ..storage import open_store
    from ..storage.lineage import lineage_document

    with options.output(json) as out, open_store(db) as store:
        document = lineage_document(store, id)
        if json:
            out.emit(document)
            return
        _lineage(document)


def _lineage(document: Mapping[str, Any]) -> None:
    from ..render import console, milliseconds, put, shorten, table, times

    where = document["device_key"] if document["basis"] == "measured" else document["target"]
    on = "on" if document["basis"] == "measured" else "for"
    print(f"{document['search']} {document['problem']}, {document['basis']} {on} {where}")
    rows: list[Sequence[object]] = []
    if document["eager_ms"] is not None:
        rows.append(("", "", "eager PyTorch", "", milliseconds(document["eager_ms"]), times(1.0), None))
    room = max(24, console().width - 72)
    for step in document["steps"]:
        outcome = step["outcome"] or ("not judged" if step["implementation"] else "")
        if step["repair_of"]:
            outcome += f", repairs {step['repair_of']}"
        if step["outcome"] == "ok" and step["time_ms"] is None:
            outcome += f", {step['basis']}" if step["basis"] != document["basis"] else ", not comparable"
        rows.append(
            (
                step["node"],
                step["implementation"],
                shorten(step["idea"], room),
                outcome,
                milliseconds(step["time_ms"]),
                times(step["speedup"]["eager"]),
                _gain(step["gain"]),
            )
        )
    headings = ("node", "impl.", "idea", "outcome", "time", "over eager", "gain")
    put(table(headings, rows, right=("time", "over eager", "gain")))


def _gain(ratio: float | None) -> str:
    """``1.31x faster``; within half a percent it is the same."""
    if ratio is None:
        return "-"
    if abs(ratio - 1) < 0.005:
        return "same"
    return f"{ratio:.2f}x faster" if ratio > 1 else f"{1 / ratio:.2f}x slower"


# ---------------------------------------------------------------------------------------------------- diff


def diff(
    first: Annotated[str, typer.Argument(metavar="ID", help="i3, e4, s1 for its best, or a program's hash.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Another; left out, what the first builds on comes before it.")
    ] = None,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", "-y", help="In two columns.")] = False,
    context: Annotated[int, typer.Option("--context", "-C", min=0, help="Lines around each change.")] = 3,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Compare the code of two programs.

    Programs that differ in comments and blanks alone are the same program.
    """
    from ..storage import open_store
    from ..storage.sources import base_of, source

    with options.output(json) as out, open_store(db) as store:
        names = (base_of(store, first), first) if second is None else (first, second)
        old, new = (source(store, name) for name in names)
        before, after = old.code.splitlines(), new.code.splitlines()
        if json:
            out.emit(_diff_document(old, new, before, after, context))
            return
        if old.program == new.program:
            print(f"{old.name} and {new.name} are the same program ({old.program[:12]})")
        elif side_by_side:
            _put_columns(old.name, new.name, before, after, context)
        else:
            _put_unified(difflib.unified_diff(before, after, old.name, new.name, lineterm="", n=context))


def _diff_document(old: Source, new: Source, before: list[str], after: list[str], context: int) -> dict[str, Any]:
    same = old.program == new.program
    lines = [] if same else list(difflib.unified_diff(before, after, old.name, new.name, lineterm="", n=context))
    return {
        "from": {"id": old.name, "program": old.program},
        "to": {"id": new.name, "program": new.program},
        "same": same,
        "added": sum(line.startswith("+") for line in lines[2:]),
        "removed": sum(line.startswith("-") for line in lines[2:]),
        "unified": lines,
    }


_STYLE = {"+": "green", "-": "red", "@": "cyan"}


def _put_unified(lines: Iterator[str]) -> None:
    from rich.text import Text

    from ..render import console

    to = console()
    for line in lines:
        if to.is_terminal:
            to.print(Text(line, style=_STYLE.get(line[:1], "")))
        else:
            print(line)


def _put_columns(old: str, new: str, before: list[str], after: list[str], context: int) -> None:
    from ..render import console

    half = (console().width - 3) // 2
    for left, mark, right in columns(before, after, context):
        print(f"{_cell(left, half)} {mark} {_cell(right, half).rstrip()}".rstrip())
    print(f"{_cell(f'({old})', half)}   ({new})")


def _cell(line: str, width: int) -> str:
    text = line.expandtabs(4)
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def columns(before: Sequence[str], after: Sequence[str], context: int) -> Iterator[tuple[str, str, str]]:
    """Rows of two columns, as ``diff -y`` has them: ``|`` changed, ``<`` only left, ``>`` only right; a row of ``…``
    stands for lines that are left out."""
    groups = list(difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(context))
    for number, group in enumerate(groups):
        if number or group[0][1] or group[0][3]:
            yield f"… line {group[0][1] + 1}", " ", f"… line {group[0][3] + 1}"
        for tag, i1, i2, j1, j2 in group:
            left, right = list(before[i1:i2]), list(after[j1:j2])
            if tag == "equal":
                yield from ((a, " ", b) for a, b in zip(left, right, strict=True))
                continue
            for row in range(max(len(left), len(right))):
                mark = "|" if row < min(len(left), len(right)) else "<" if row < len(left) else ">"
                yield left[row] if row < len(left) else "", mark, right[row] if row < len(right) else ""


# --------------------------------------------------------------------------------------------------- stats


#: Columns of words, which stand on the left; figures stand on the right.
_WORDS = ("outcome", "model", "category", "kind", "impl.", "idea")


def stats(search: _Search = None, db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Count what came of a search.

    By outcome, model and category; where its time went; and after how many evaluations it got faster.
    """
    from ..storage import documents, open_store
    from ..storage.stats import stats_document

    with options.output(json) as out, open_store(db) as store:
        document = stats_document(store, documents.find_search(store, search))
        if json:
            out.emit(document)
            return
        _stats(document)


def _stats(document: Mapping[str, Any]) -> None:
    from ..render import duration, milliseconds, money, number_of, put, shorten, table, times

    def section(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if rows:
            print(f"\n{title}:")
            put(table(headings, rows, right=[name for name in headings if name not in _WORDS]))

    print(
        f"{document['search']} {document['problem']}, {document['status']}: "
        f"{number_of(document['nodes'], 'node')}, {number_of(document['implementations'], 'implementation')}, "
        f"{document['judged']} judged in "
        f"{duration(document['elapsed_s'])}, cost {money(document['cost_usd'])}"
    )
    section(
        "outcomes",
        ("outcome", "evaluations", "judging"),
        [(row["outcome"], row["count"], duration(row["wall_s"] or 0)) for row in document["outcomes"]],
    )
    for name, of in (("models", "model"), ("categories", "category")):
        headings = [of, *(["ideas", "pruned"] if of == "category" else [])]
        headings += ["made", "duplicates", "judged", "ok", "share", "best", "over eager"]
        rows = []
        for group in document[name]:
            share = f"{group['ok'] / group['judged']:.0%}" if group["judged"] else "-"
            ideas = [group["ideas"], group["pruned"]] if of == "category" else []
            best = [milliseconds(group["best_ms"]), times(group["best_speedup"])]
            counts = [group["made"], group["duplicates"], group["judged"], group["ok"], share]
            rows.append([group["by"] or "-", *ideas, *counts, *best])
        section(f"{name} (times {document['basis']} for {document['target']})", headings, rows)
    section(
        "work",
        ("kind", "jobs", "done", "given up", "waiting", "again", "time"),
        [
            (w["kind"], w["jobs"], w["done"], w["given_up"], w["waiting"], w["again"], duration(w["seconds"]))
            for w in document["work"]
        ],
    )
    section(
        "improvements",
        ("after", "impl.", "time", "over eager", "gain", "idea"),
        [
            (
                row["evaluations"],
                row["implementation"],
                milliseconds(row["time_ms"]),
                times(row["speedup"]),
                _gain(row["gain"]),
                shorten(row["idea"], 90),
            )
            for row in document["improvements"]
        ],
    )
    if document["improvements"]:
        print(f"{number_of(document['since_best'], 'evaluation')} since the last")
