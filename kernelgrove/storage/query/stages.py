"""A whole query to one statement: the condition, then what its stages make of the rows.

``best``, ``repeated`` keep rows and may be followed by anything; ``lost``, ``count``, ``stats``, ``cost`` and
``lineage`` make other rows and end the query. Times and speedups of two bases are never ranked, sorted or summed
together: ``best`` and ``stats`` work within each basis, and a sort by such a figure goes basis by basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UsageError
from . import reports
from .conditions import Sql, condition
from .fields import Field, Kind
from .lexer import fault, nearest
from .relations import RELATIONS, Relation
from .syntax import Name, Query, Stage

_LAST = ("lost", "count", "stats", "cost", "lineage")


@dataclass(frozen=True)
class Wanted:
    """How to show what a query finds. *sort* is ``FIELD``, ``FIELD:desc`` or ``FIELD:asc``; *limit* is in rows."""

    of: str = "implementations"
    columns: tuple[str, ...] = ()
    sort: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Statement:
    """SQL, the values of its ``?``, and the outside tables (``facts``) that must be put before it."""

    sql: Sql
    columns: tuple[str, ...]


def translate(query: Query, wanted: Wanted) -> Statement:
    """Raises UsageError where the query or *wanted* asks for what there is not."""
    relation = RELATIONS.get(wanted.of)
    if relation is None:
        raise UsageError(f"--of {wanted.of} is nothing a query can be over.", nearest(wanted.of, RELATIONS))
    where = Sql("1") if query.condition is None else condition(query.condition, relation)
    order: tuple[str, ...] = ()
    for place, stage in enumerate(query.stages):
        if stage.word in _LAST:
            if place + 1 < len(query.stages):
                after = query.stages[place + 1]
                raise fault(after.position, after.word, f"nothing can follow {stage.word}", "Put it before.")
            return _shown(_report(stage, query, where, relation), wanted)
        where, order = _keep(stage, where, relation)
    return _rows(where, order, relation, wanted)


# ---------------------------------------------------------------------------------------------- keeping rows


def _keep(stage: Stage, where: Sql, relation: Relation) -> tuple[Sql, tuple[str, ...]]:
    """The rows that *stage* keeps, and the order in which they are then shown."""
    groups = [_field(name, relation) for name in stage.names]
    facts = where.facts | {field.facts for field in groups} - {""}
    if stage.word == "repeated":
        by = ", ".join(f"{field.sql} COLLATE NOCASE" for field in groups)
        all_there = " AND ".join(f"{field.sql} IS NOT NULL" for field in groups)
        text = (
            f"{relation.key} IN (SELECT key FROM (SELECT {relation.key} AS key,"
            f" count(*) OVER (PARTITION BY {by}) AS many FROM {relation.source}"
            f" WHERE ({where.text}) AND {all_there}) WHERE many > 1)"
        )
        return Sql(text, where.values, facts), tuple(f"{field.sql} COLLATE NOCASE" for field in groups)
    figure = _figure(stage, relation)
    within = [field.sql for field in groups]
    within += [relation.fields["basis"].sql] if figure.has_basis else []
    by = ", ".join(within) or "1"
    passed = f" AND {relation.passed}" if relation.passed else ""
    ranked = f"{figure.sql}{' DESC' if figure.better == 'high' else ''}, {relation.key}"
    text = (
        f"{relation.key} IN (SELECT key FROM (SELECT {relation.key} AS key,"
        f" row_number() OVER (PARTITION BY {by} ORDER BY {ranked}) AS place FROM {relation.source}"
        f" WHERE ({where.text}){passed} AND {figure.sql} IS NOT NULL) WHERE place <= ?)"
    )
    found = Sql(text, (*where.values, stage.number or 1), facts | ({figure.facts} - {""}))
    return found, (*within, f"{figure.sql}{' DESC' if figure.better == 'high' else ''}")


def _field(name: Name, relation: Relation) -> Field:
    return relation.field(name.text, name.position)


def _figure(stage: Stage, relation: Relation) -> Field:
    """What ``best`` ranks by. Without ``by`` it is the time where the groups hold one problem on one device each, else
    the speedup over eager, which can be compared across problems."""
    if stage.figure is not None:
        found = _field(stage.figure, relation)
        if not found.better:
            good = [name for name, field in relation.fields.items() if field.better]
            raise fault(
                stage.figure.position,
                stage.figure.text,
                "this is no figure that can be ranked",
                nearest(stage.figure.text, good),
            )
        return found
    if "time_ms" not in relation.fields:
        raise fault(stage.position, "best", f"{relation.name} have no time to rank by", "Write best by cost_usd.")
    names = {name.text for name in stage.names}
    alone = names & {"search", "node", "implementation"} or (
        "problem" in names and names & {"device", "target", "program"}
    )
    return relation.fields["time_ms" if alone else "speedup"]


# -------------------------------------------------------------------------------------------------- the rows


def _rows(where: Sql, order: tuple[str, ...], relation: Relation, wanted: Wanted) -> Statement:
    names = list(wanted.columns or relation.columns)
    fields = [relation.field(name) if name in relation.fields else _no_column(name, relation.fields) for name in names]
    if any(field.has_basis for field in fields) and "basis" not in names:
        at = next(place for place, field in enumerate(fields) if field.has_basis)
        names.insert(at, "basis")
        fields.insert(at, relation.fields["basis"])
    facts = where.facts | {field.facts for field in fields} - {""}
    if wanted.sort is not None:
        name, descending = _sort(wanted.sort, relation.fields)
        field = relation.fields[name]
        facts |= {field.facts} - {""}
        if field.has_basis and "basis" not in names:
            names.append("basis")
            fields.append(relation.fields["basis"])
        order = (relation.fields["basis"].sql,) if field.has_basis else ()
        order += (f"({field.sql}) IS NULL", f"{field.sql}{_collation(field)}{' DESC' if descending else ''}")
    listed = ", ".join(f'{field.shown} AS "{name}"' for name, field in zip(names, fields, strict=True))
    text = f"SELECT {listed} FROM {relation.source} WHERE {where.text} ORDER BY {', '.join([*order, relation.key])}"
    return _limited(text, Sql(text, where.values, facts), names, wanted)


def _collation(field: Field) -> str:
    return " COLLATE NOCASE" if field.kind in (Kind.TEXT, Kind.LIST) else ""


def _sort(text: str, known: dict[str, Field] | dict[str, None]) -> tuple[str, bool]:
    name, _, direction = text.strip().lower().partition(":")
    if direction not in ("", "asc", "desc"):
        raise UsageError(f"--sort {text} ends in {direction!r}.", f"Write --sort {name}:desc or --sort {name}:asc.")
    if name not in known:
        raise UsageError(f"--sort: there is no field {name!r} here.", nearest(name, known))
    return name, direction == "desc"


def _no_column(name: str, known: dict[str, Field] | dict[str, None]) -> Field:
    raise UsageError(f"--columns: there is no field {name!r} here.", nearest(name, known))


# ----------------------------------------------------------------------------------------------- the reports


def _report(stage: Stage, query: Query, where: Sql, relation: Relation) -> reports.Report:
    groups = {name.text: _field(name, relation) for name in stage.names}
    match stage.word:
        case "count":
            return reports.count(where, relation, groups)
        case "stats":
            assert stage.figure is not None
            figure = _field(stage.figure, relation)
            if figure.kind is not Kind.NUMBER:
                numbers = [name for name, field in relation.fields.items() if field.kind is Kind.NUMBER]
                raise fault(
                    stage.figure.position,
                    stage.figure.text,
                    "this is no number to have statistics of",
                    nearest(stage.figure.text, numbers),
                )
            return reports.stats(where, relation, figure, groups)
        case "cost":
            return _cost(stage, query)
        case "lost":
            assert stage.value is not None
            if relation.name not in ("implementations", "evaluations"):
                raise fault(stage.position, "lost", f"{relation.name} are not evaluated", "Ask --of implementations.")
            return reports.lost(where, relation, stage.value)
        case _:
            if relation.name not in ("implementations", "nodes"):
                raise fault(stage.position, "lineage", f"{relation.name} have no lineage", "Ask --of implementations.")
            return reports.lineage(where, relation)


def _cost(stage: Stage, query: Query) -> reports.Report:
    """Calls that gave nothing cost too: so what is asked must be a field of calls as well as of implementations."""
    calls, made = RELATIONS["completions"], RELATIONS["implementations"]
    if len(query.stages) > 1:
        raise fault(stage.position, "cost", "cost counts all calls, so that no other stage can stand before it")
    both = {name: field for name, field in calls.fields.items() if name in made.fields and name not in _DIFFER}
    paid = Relation("calls and implementations", calls.source, calls.key, both, ())
    groups = {name.text: (_field(name, paid), made.fields[name.text]) for name in stage.names}
    one = Sql("1") if query.condition is None else condition(query.condition, paid)
    other = Relation("calls and implementations", made.source, made.key, {name: made.fields[name] for name in both}, ())
    two = Sql("1") if query.condition is None else condition(query.condition, other)
    return reports.cost(one, two, calls.source, made.source, groups)


#: Fields of calls and of implementations that mean different things.
_DIFFER = frozenset("state message cost_usd tokens created".split())


def _shown(report: reports.Report, wanted: Wanted) -> Statement:
    """*report* with the columns, order and limit that are wanted of it; a figure's basis is always among them."""
    known: dict[str, None] = dict.fromkeys(report.columns)
    for name in wanted.columns:
        if name not in known:
            _no_column(name, known)
    names = wanted.columns or report.columns
    if "basis" in known and "basis" not in names and report.figures.intersection(names):
        names = ("basis", *names)
    order = report.order
    if wanted.sort is not None:
        name, descending = _sort(wanted.sort, known)
        first = ("basis",) if "basis" in known and name in report.figures else ()
        order = (*first, f'"{name}" IS NULL', f'"{name}"{" DESC" if descending else ""}', *order)
    listed = ", ".join(map(reports.quoted, names))
    return _limited(f"SELECT {listed} FROM ({report.sql.text}) ORDER BY {', '.join(order)}", report.sql, names, wanted)


def _limited(text: str, sql: Sql, names: Sequence[str], wanted: Wanted) -> Statement:
    """*text*, which has the values of *sql*, cut to the rows that are wanted."""
    if wanted.limit is None:
        return Statement(Sql(text, sql.values, sql.facts), tuple(names))
    if not 0 <= wanted.limit < 2**62:
        raise UsageError(f"--limit {wanted.limit} is not a number of rows.", "Write --limit 10.")
    return Statement(Sql(f"{text} LIMIT ?", (*sql.values, wanted.limit), sql.facts), tuple(names))
