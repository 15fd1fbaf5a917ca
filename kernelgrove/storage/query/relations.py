"""What a query is over (``--of``): each relation's FROM clause, key, fields and the columns shown when none are named.

Every relation has one row a key: implementations come with their search's own evaluation, nodes and searches with
that of their best implementation within the basis of the search's device.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import fields as f
from .fields import Field
from .lexer import fault, nearest


@dataclass(frozen=True)
class Relation:
    name: str
    source: str  # the FROM clause
    key: str
    fields: dict[str, Field]
    columns: tuple[str, ...]  # shown when none are named
    passed: str = ""  # condition under which a row may be ranked
    in_tree: str = ""  # alias that "under" and "above" look at: n for nodes, i for implementations

    def field(self, name: str, position: int = 0) -> Field:
        """Raises UsageError with the nearest names."""
        found = self.fields.get(name)
        if found is None:
            raise fault(position, name, f"{self.name} have no field of this name", nearest(name, self.fields))
        return found


_BEST_OF = """(
    SELECT i0.evaluation_id FROM implementation i0
    WHERE i0.{column} = {owner} AND i0.basis = d.basis AND i0.outcome = 'ok' AND i0.time_ms IS NOT NULL
    ORDER BY i0.time_ms, i0.id LIMIT 1)"""

_SEARCH = "JOIN problem p ON p.id = s.problem_id JOIN device d ON d.id = s.device_id"
_OK = "e.outcome = 'ok' AND i.duplicate_of IS NULL"
_MODEL = Field(f.Kind.TEXT, "i.model", "the proposer that wrote it")


def _created(sql: str) -> dict[str, Field]:
    return {"created": f.SEARCH["created"].at(sql)}


IMPLEMENTATIONS = Relation(
    "implementations",
    f"implementation i JOIN node n ON n.id = i.node_id JOIN search s ON s.id = i.search_id {_SEARCH}"
    " LEFT JOIN evaluation e ON e.id = i.evaluation_id LEFT JOIN device ed ON ed.id = e.device_id",
    "i.id",
    f.SEARCH
    | f.NODE
    | f.EVALUATION
    | f.IMPLEMENTATION
    | f.spent("i.job_id")
    | {"model": _MODEL}
    | _created("i.created_at")
    | f.device_fields(owned=False),
    ("implementation", "search", "problem", "device", "outcome", "basis", "time_ms", "speedup", "model", "idea"),
    _OK,
    "i",
)

EVALUATIONS = Relation(
    "evaluations",
    "evaluation e JOIN device ed ON ed.id = e.device_id LEFT JOIN implementation i ON i.id = e.implementation_id"
    " LEFT JOIN node n ON n.id = i.node_id LEFT JOIN search s ON s.id = e.search_id"
    " LEFT JOIN problem p ON p.id = coalesce(s.problem_id,"
    " (SELECT min(id) FROM problem WHERE digest = e.problem_digest)) LEFT JOIN device d ON d.id = s.device_id",
    "e.id",
    f.SEARCH
    | f.NODE
    | f.IMPLEMENTATION
    | f.EVALUATION
    | {"model": _MODEL}
    | _created("e.created_at")
    | f.device_fields(owned=True)
    | {
        "program": f.IMPLEMENTATION["program"].at("e.program"),
        "precision": f.SEARCH["precision"].at("e.precision"),
        "size": f.SEARCH["size"].at("e.size_key"),
    },
    ("evaluation", "implementation", "problem", "device", "outcome", "basis", "time_ms", "speedup", "created"),
    "e.outcome = 'ok'",
    "i",
)

NODES = Relation(
    "nodes",
    f"node n JOIN search s ON s.id = n.search_id {_SEARCH}"
    f" LEFT JOIN evaluation e ON e.id = {_BEST_OF.format(column='node_id', owner='n.id')}"
    " LEFT JOIN device ed ON ed.id = e.device_id",
    "n.id",
    f.SEARCH
    | f.NODE
    | f.EVALUATION
    | f.spent("n.job_id")
    | _created("n.created_at")
    | f.device_fields(owned=False)
    | {"model": Field(f.Kind.TEXT, "n.model", "the proposer of the idea")},
    ("node", "search", "problem", "category", "state", "basis", "time_ms", "speedup", "model", "idea"),
    "e.outcome = 'ok'",
    "n",
)

SEARCHES = Relation(
    "searches",
    f"search s {_SEARCH} LEFT JOIN evaluation e ON e.id = {_BEST_OF.format(column='search_id', owner='s.id')}"
    " LEFT JOIN device ed ON ed.id = e.device_id",
    "s.id",
    f.SEARCH | f.EVALUATION | f.OF_SEARCH | f.device_fields(owned=False),
    ("search", "problem", "device", "status", "implementations", "basis", "time_ms", "speedup", "model", "cost_usd"),
    "e.outcome = 'ok'",
)

COMPLETIONS = Relation(
    "completions",
    f"completion c JOIN search s ON s.id = c.search_id {_SEARCH}",
    "c.id",
    f.SEARCH | f.COMPLETION | _created("c.created_at"),
    ("completion", "search", "kind", "model", "state", "cost_usd", "tokens", "message", "created"),
)

RELATIONS = {r.name: r for r in (IMPLEMENTATIONS, NODES, SEARCHES, EVALUATIONS, COMPLETIONS)}
