"""The stages that make rows of their own: count, stats, cost, lost, lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .conditions import COMES_FROM, Sql
from .fields import IMPLEMENTATION, Field
from .relations import Relation
from .syntax import Value


@dataclass(frozen=True)
class Report:
    """A SELECT, its columns, and the terms it is ordered by unless another order is wanted. *figures* are the columns
    that must be sorted basis by basis."""

    sql: Sql
    columns: tuple[str, ...]
    order: tuple[str, ...]
    figures: frozenset[str] = frozenset()


def _facts(*parts: Sql, fields: Mapping[str, Field]) -> frozenset[str]:
    found = frozenset(field.facts for field in fields.values()) - {""}
    return found.union(*(part.facts for part in parts))


def quoted(name: str) -> str:
    """A column's name in SQL; names are fields' own, never a user's text."""
    return f'"{name}"'


def _groups(groups: Mapping[str, Field]) -> tuple[str, str]:
    """Columns (``x AS "name", ``) and the numbers to GROUP BY."""
    listed = "".join(f'{field.shown} COLLATE NOCASE AS "{name}", ' for name, field in groups.items())
    return listed, ", ".join(str(number + 1) for number in range(len(groups)))


def count(where: Sql, relation: Relation, groups: Mapping[str, Field]) -> Report:
    """How many rows of each group, most first; ``example`` is the first row's id."""
    listed, by = _groups(groups)
    letter = next((f.letter for f in relation.fields.values() if f.sql == relation.key and f.letter), "")
    example = f", '{letter}' || min({relation.key}) AS example" if letter else ""
    text = (
        f"SELECT {listed}count(*) AS count{example} FROM {relation.source} WHERE {where.text}"
        f"{f' GROUP BY {by}' if by else ''}"
    )
    columns = (*groups, "count", *(("example",) if letter else ()))
    return Report(Sql(text, where.values, _facts(where, fields=groups)), columns, ("count DESC", *map(quoted, groups)))


def stats(where: Sql, relation: Relation, figure: Field, groups: Mapping[str, Field]) -> Report:
    """How many, least, median, mean and most of *figure* in each group, best median first; within each basis."""
    if figure.has_basis:
        groups = {**groups, "basis": relation.fields["basis"]}
    listed, _ = _groups(groups)
    names = ", ".join(f'"{name}"' for name in groups)
    part = f"PARTITION BY {names}" if names else ""
    known = f"({where.text}) AND {figure.sql} IS NOT NULL"
    inner = f"SELECT {listed}{figure.sql} AS figure FROM {relation.source} WHERE {known}"
    ranked = (
        f"SELECT *, row_number() OVER ({part} ORDER BY figure) AS place, count(*) OVER ({part}) AS many FROM ({inner})"
    )
    total = ", sum(figure) AS total" if figure.adds_up else ""
    text = (
        f"SELECT {f'{names}, ' if names else ''}count(*) AS n, min(figure) AS least,"
        " avg(CASE WHEN place IN ((many + 1) / 2, (many + 2) / 2) THEN figure END) AS median,"
        f" avg(figure) AS mean, max(figure) AS most{total} FROM ({ranked})"
        f"{f' GROUP BY {names}' if names else ' HAVING count(*) > 0'}"
    )
    order: tuple[str, ...] = ("basis",) if figure.has_basis else ()
    order += ("median" if figure.better == "low" else "median DESC", *map(quoted, groups))
    made = ("n", "least", "median", "mean", "most", *(("total",) if total else ()))
    figures = frozenset(made[1:]) if figure.has_basis else frozenset()
    return Report(Sql(text, where.values, _facts(where, fields=groups)), (*groups, *made), order, figures)


def cost(calls: Sql, made: Sql, called: str, source: str, groups: Mapping[str, tuple[Field, Field]]) -> Report:
    """What all calls of a group cost, and what an improvement cost. ``unpriced`` calls have no known price and are not
    in ``cost_usd``; calls in flight are not counted."""
    improved = IMPLEMENTATION["improvement"].sql
    one, by = _groups({name: pair[0] for name, pair in groups.items()})
    two, _ = _groups({name: pair[1] for name, pair in groups.items()})
    grouped = f" GROUP BY {by}" if by else ""
    joined = " AND ".join(f'k."{name}" IS m."{name}"' for name in groups) or "1"
    names = "".join(f'k."{name}" AS "{name}", ' for name in groups)
    text = (
        f"SELECT {names}k.calls, k.tokens, k.cost_usd, k.unpriced, coalesce(m.improvements, 0) AS improvements,"
        " k.cost_usd / nullif(m.improvements, 0) AS usd_per_improvement FROM ("
        f"SELECT {one}count(*) AS calls, coalesce(sum(c.tokens), 0) AS tokens, sum(c.cost_usd) AS cost_usd,"
        f" count(*) - count(c.cost_usd) AS unpriced FROM {called}"
        f" WHERE ({calls.text}) AND c.state NOT IN ('planned', 'sent', 'abandoned'){grouped}) k LEFT JOIN ("
        f"SELECT {two}count(*) AS improvements FROM {source} WHERE ({made.text}) AND {improved}{grouped}) m ON {joined}"
    )
    columns = (*groups, "calls", "tokens", "cost_usd", "unpriced", "improvements", "usd_per_improvement")
    facts = _facts(calls, made, fields={name: pair[0] for name, pair in groups.items()})
    order = ("usd_per_improvement IS NULL", "usd_per_improvement", "cost_usd DESC", *map(quoted, groups))
    return Report(Sql(text, calls.values + made.values, facts), columns, order)


# One evaluation a program, problem, size and basis on the other device: the newest. A rank is within one problem.
_THERE = """
    SELECT x.program, x.problem_digest, x.size_key, x.precision, x.basis, x.outcome, x.time_ms,
           CASE WHEN x.time_ms IS NOT NULL THEN rank() OVER (
               PARTITION BY x.problem_digest, x.size_key, x.precision, x.basis
               ORDER BY x.time_ms IS NULL, x.time_ms) END AS rank,
           min(x.time_ms) OVER (PARTITION BY x.problem_digest, x.size_key, x.precision, x.basis) AS best_ms
    FROM evaluation x JOIN device xd ON xd.id = x.device_id
    WHERE x.id IN (SELECT max(y.id) FROM evaluation y JOIN device yd ON yd.id = y.device_id
                   WHERE y.target = ? COLLATE NOCASE OR y.device_key = ? COLLATE NOCASE OR yd.name = ? COLLATE NOCASE
                   GROUP BY y.program, y.problem_digest, y.size_key, y.precision, y.basis)"""


def lost(where: Sql, relation: Relation, device: Value) -> Report:
    """Those of the rows whose program is not the best of its problem on *device*, with its time and rank there.

    Like is compared with like: the same problem, size, precision and basis. What was never judged there is left out.
    """
    on = device.text or ""
    name = relation.name[:-1]
    text = (
        f"SELECT {relation.fields[name].shown} AS {name}, p.name AS problem, {relation.fields['device'].sql} AS device,"
        ' e.basis AS basis, e.time_ms AS time_ms, e.speedup_eager AS speedup, ? AS "on", w.outcome AS outcome_there,'
        " w.time_ms AS ms_there, w.rank AS rank_there, w.best_ms AS best_there"
        f" FROM {relation.source} JOIN ({_THERE}) w ON w.program = e.program AND w.problem_digest = e.problem_digest"
        " AND w.size_key = e.size_key AND w.precision = e.precision AND w.basis = e.basis"
        f" WHERE ({where.text}) AND coalesce(w.rank, 2) > 1"
    )
    columns: tuple[str, ...] = (name, *"problem device basis time_ms speedup on".split())
    columns += tuple("outcome_there ms_there rank_there best_there".split())
    figures = frozenset({"time_ms", "speedup", "ms_there", "best_there"})
    return Report(Sql(text, (on, on, on, on, *where.values), where.facts), columns, ("basis", "problem", name), figures)


def lineage(where: Sql, relation: Relation) -> Report:
    """For each implementation found (a node's are its best), the implementations that it comes from, oldest first,
    ``gain`` being the time of the nearest earlier one that passed, in the same basis, over its own; the first one's is
    its speedup over eager."""
    if relation.name == "nodes":
        start = (
            "(SELECT i0.id FROM implementation i0 WHERE i0.node_id = n.id AND i0.evaluation_id = e.id ORDER BY i0.id)"
        )
    else:
        start = "i.id"
    text = (
        f"WITH RECURSIVE {COMES_FROM}, t(of, id, back) AS ("
        f"SELECT {start}, {start}, 0 FROM {relation.source} WHERE ({where.text}) UNION"
        " SELECT t.of, f.base, t.back + 1 FROM t JOIN f ON f.id = t.id WHERE f.base IS NOT NULL),"
        " steps AS MATERIALIZED (SELECT t.of, t.back, j.id, j.node_id, j.model, m.idea, v.outcome, v.basis, v.time_ms,"
        " v.speedup_eager FROM t JOIN implementation j ON j.id = t.id JOIN node m ON m.id = j.node_id"
        " LEFT JOIN evaluation v ON v.id = j.evaluation_id)"
        " SELECT 'i' || g.of AS of, max_back.back - g.back + 1 AS step, 'i' || g.id AS implementation,"
        " 'n' || g.node_id AS node, g.outcome AS outcome, g.basis AS basis, g.time_ms AS time_ms,"
        " g.speedup_eager AS speedup, coalesce((SELECT h.time_ms / g.time_ms FROM steps h WHERE h.of = g.of"
        " AND h.back > g.back AND h.time_ms IS NOT NULL AND h.basis = g.basis ORDER BY h.back LIMIT 1),"
        " g.speedup_eager) AS gain, g.model AS model, g.idea AS idea FROM steps g"
        " JOIN (SELECT of, max(back) AS back FROM steps GROUP BY of) max_back ON max_back.of = g.of"
    )
    columns = (
        "of",
        "step",
        "implementation",
        "node",
        "outcome",
        "basis",
        "time_ms",
        "speedup",
        "gain",
        "model",
        "idea",
    )
    order = ("CAST(substr(of, 2) AS INTEGER)", "step")
    return Report(Sql(text, where.values, where.facts), columns, order, frozenset({"time_ms", "speedup", "gain"}))
