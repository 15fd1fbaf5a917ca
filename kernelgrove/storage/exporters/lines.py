"""JSON lines: searches in full, one row of one table a line, so that nothing is lost (docs/interchange.md).

The first line says what the file is and how many rows of each table follow. Rows come table by table in the order of
``TABLES``. Ids are numbered from 1 in each file: rows that belong to a search in the order they were made, shared rows
(problem, device, program) in the order they are first used. So the same searches give the same file, byte for byte,
whatever else their grove holds. For the same reason a program's ``created_at`` is its first use in these searches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, or_, select

from .. import migrate
from ..tables import REPEATED, metadata

FORMAT = "kernelgrove-jsonl"
VERSION = 1

#: Every table, in the order of the file. What a row shares with others' searches comes before what uses it.
TABLES = (
    *("problem", "device", "program", "search"),
    *("node", "implementation", "evaluation", "job", "completion", "decision"),
)
#: Tables whose rows several searches may use.
SHARED = ("problem", "device", "program")

#: Ids inside of JSON columns (``job.payload``, ``decision.actions``): key -> the table it points into.
IN_JSON = {
    "parent": "node",
    "node": "node",
    "nodes": "node",
    "base": "implementation",
    "implementation": "implementation",
}
_WITH_IDS = {("job", "payload"), ("decision", "actions")}

#: (table, id) -> the id to write in its place; None where the row is not there.
Numbering = Callable[[str, int], int | None]

_BATCH = 500


def references(table: Table) -> dict[str, str]:
    """column -> table, for the columns of *table* that hold another row's id."""
    return {
        column.name: key.column.table.name
        for column in table.c
        for key in column.foreign_keys
        if key.column.name == "id"
    }


def renumbered(table: Table, row: Mapping[str, Any], number: Numbering) -> dict[str, Any]:
    """*row* with every id but its own, those inside of JSON too, replaced by what *number* says."""
    found = dict(row)
    for column, target in references(table).items():
        if found.get(column) is not None:
            found[column] = number(target, found[column])
    for name, column in _WITH_IDS:
        if name == table.name and column in found:
            found[column] = _inside(found[column], number)
    return found


def _inside(value: Any, number: Numbering) -> Any:
    if isinstance(value, list):
        return [_inside(item, number) if isinstance(item, dict) else item for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _one(IN_JSON[key], item, number) if key in IN_JSON else item for key, item in value.items()}


def _one(table: str, value: Any, number: Numbering) -> Any:
    if isinstance(value, list):
        return [_one(table, item, number) for item in value]
    return number(table, value) if isinstance(value, int) and not isinstance(value, bool) else value


# --------------------------------------------------------------------------------------------------- writing


def export(connection: Connection, searches: Iterable[int]) -> Iterator[str]:
    """The lines of *searches*, each with its line end. An evaluation that came from another search and was reused is
    taken along, without what it says of that search."""
    chosen = sorted(set(searches))
    ids, used = _ids(connection, chosen)
    yield _line({"format": FORMAT, "version": VERSION, "schema": migrate.SCHEMA, "rows": {t: len(ids[t]) for t in ids}})
    numbers = {name: {old: new for new, old in enumerate(found, 1)} for name, found in ids.items()}

    def number(table: str, old: int) -> int | None:
        return numbers[table].get(old)

    for name in TABLES:
        table = metadata.tables[name]
        for row in _rows(connection, table, ids[name]):
            if name == "program":
                row["created_at"] = used[row["hash"]]
            if name == "implementation":
                row = {column: value for column, value in row.items() if column not in REPEATED}
            yield _line({"table": name, **renumbered(table, {**row, "id": numbers[name][row["id"]]}, number)})


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _ids(connection: Connection, searches: Sequence[int]) -> tuple[dict[str, list[int]], dict[str, float]]:
    """table -> the ids of its rows, in the order they are written; and ``_first_use``."""
    tables = metadata.tables
    found: dict[str, list[int]] = {"search": list(searches)}
    for name in ("node", "implementation", "job", "completion", "decision"):
        table = tables[name]
        found[name] = _column(connection, table, table.c.id, table.c.search_id.in_(searches))
    made, judged, search = tables["implementation"], tables["evaluation"], tables["search"]
    ours = made.c.search_id.in_(searches)
    again = judged.alias()  # the first of several measurements may be one that was reused
    wanted = or_(
        judged.c.search_id.in_(searches),
        judged.c.id.in_(select(again.c.remeasures).where(again.c.search_id.in_(searches))),
        judged.c.implementation_id.in_(select(made.c.id).where(ours)),
        judged.c.id.in_(select(made.c.evaluation_id).where(ours)),
    )
    found["evaluation"] = _column(connection, judged, judged.c.id, wanted)
    mine = search.c.id.in_(searches)
    found["problem"] = _unique(_column(connection, search, search.c.problem_id, mine))
    found["device"] = _unique(
        [
            *_column(connection, search, search.c.device_id, mine),
            *_column(connection, judged, judged.c.device_id, wanted),
        ]
    )
    programs, used = tables["program"], _first_use(connection, ours, wanted)
    by_hash = {row.hash: row.id for row in connection.execute(select(programs.c.hash, programs.c.id))}
    found["program"] = [by_hash[key] for key in used]
    return {name: found[name] for name in TABLES}, used


def _first_use(connection: Connection, ours: ColumnElement[bool], wanted: ColumnElement[bool]) -> dict[str, float]:
    """program -> when the searches first used it, in that order."""
    found: dict[str, float] = {}
    for name, where in (("implementation", ours), ("evaluation", wanted)):
        table = metadata.tables[name]
        statement = select(table.c.program, table.c.created_at).where(where).order_by(table.c.id)
        for program, created_at in connection.execute(statement):
            found.setdefault(program, created_at)
    return found


def _column(connection: Connection, table: Table, column: Any, where: ColumnElement[bool]) -> list[Any]:
    return list(connection.execute(select(column).where(where).order_by(table.c.id)).scalars())


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _rows(connection: Connection, table: Table, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows of *table* with these ids, in this order, a batch at a time."""
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        found = connection.execute(select(table).where(table.c.id.in_(batch))).mappings()
        by_id = {row["id"]: dict(row) for row in found}
        yield from (by_id[id_] for id_ in batch)
