"""What may be asked: the fields of searches, nodes, implementations, evaluations and completions.

A field is SQL over the aliases of its relation's FROM clause (``relations``): ``s`` search, ``p`` problem, ``d`` its
device, ``n`` node, ``i`` implementation, ``e`` evaluation, ``ed`` that evaluation's device, ``c`` completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ...model import (
    Basis,
    CompletionState,
    JobKind,
    NodeState,
    Outcome,
    Precision,
    Provenance,
    SearchStatus,
    Stage,
    StoppedBy,
)
from .families import FAMILIES


class Kind(Enum):
    TEXT = "text"
    NUMBER = "number"
    ID = "id"
    TIME = "time"  # kept as seconds since the epoch, shown and written as ISO 8601 UTC
    FLAG = "yes or no"
    LIST = "list"  # words joined by ", ": a comparison asks whether one is among them


@dataclass(frozen=True)
class Facts:
    """What is not in the file: GPU -> (architecture, its first word, instruction set)."""

    architectures: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Field:
    kind: Kind
    sql: str
    says: str
    letter: str = ""  # of an id
    also: tuple[str, ...] = ()  # more expressions that = and ~ look at
    choices: tuple[str, ...] = ()
    full_text: str = ""  # how ~ searches: idea, code, text; else as a part of the text, case aside
    better: str = ""  # low or high, where rows are ranked by it
    has_basis: bool = False  # a time or a speedup: never without its basis
    adds_up: bool = False  # a total makes sense
    facts: str = ""  # the table of outside facts that its SQL reads

    @property
    def shown(self) -> str:
        """SQL for the value as people see it."""
        if self.kind is Kind.ID:
            return f"'{self.letter}' || {self.sql}"
        if self.kind is Kind.TIME:
            return f"strftime('%Y-%m-%dT%H:%M:%SZ', {self.sql}, 'unixepoch')"
        if self.kind is Kind.FLAG:
            return f"CASE WHEN {self.sql} THEN 'yes' ELSE 'no' END"
        return self.sql

    def at(self, sql: str, *also: str) -> Field:
        return replace(self, sql=sql, also=also)


def _words(kinds: type) -> tuple[str, ...]:
    return tuple(str(member) for member in kinds)  # type: ignore[attr-defined]


def _text(sql: str, says: str, *also: str, choices: tuple[str, ...] = (), full_text: str = "") -> Field:
    return Field(Kind.TEXT, sql, says, also=also, choices=choices, full_text=full_text)


def _number(sql: str, says: str, *, adds_up: bool = False, better: str = "") -> Field:
    return Field(Kind.NUMBER, sql, says, adds_up=adds_up, better=better)


def _figure(sql: str, says: str, better: str) -> Field:
    return Field(Kind.NUMBER, sql, says, better=better, has_basis=True)


def _id(letter: str, sql: str, says: str, *also: str) -> Field:
    return Field(Kind.ID, sql, says, letter=letter, also=also)


_KEY = "coalesce(e.device_key, s.device_key)"
_TARGET = "coalesce(e.target, s.target)"

SEARCH: dict[str, Field] = {
    "search": _id("s", "s.id", "the search, by id or name", "s.name"),
    "name": _text("s.name", "name of the search"),
    "problem": _text("p.name", "name of the problem"),
    "family": Field(
        Kind.LIST,
        "(SELECT f.names FROM families f WHERE f.problem = p.id)",
        "what the reference computes, by the operators it calls",
        choices=FAMILIES,
        facts="families",
    ),
    "reference": _text("p.source", "the problem's source text"),
    "device": _text("s.device_key", "the device figures are of: its key, GPU or name", "s.target", "d.name"),
    "target": _text("s.target", "the GPU figures are for"),
    "architecture": replace(
        _text(
            "(SELECT a.name FROM architectures a WHERE a.gpu = s.target)",
            "the target's architecture: Ada, Hopper, sm_89",
            "(SELECT a.short FROM architectures a WHERE a.gpu = s.target)",
            "(SELECT a.arch FROM architectures a WHERE a.gpu = s.target)",
        ),
        facts="architectures",
    ),
    "precision": _text("s.precision", "lower precision allowed", choices=_words(Precision)),
    "size": _text("s.size_key", "size of the problem, timed/checked"),
    "strategy": _text("s.strategy", "strategy of the search"),
    "status": _text("s.status", "how the search stands", choices=_words(SearchStatus)),
    "stopped_by": _text("s.stopped_by", "what ended the search", choices=_words(StoppedBy)),
    "created": Field(Kind.TIME, "s.created_at", "when it was made, UTC"),
}

NODE: dict[str, Field] = {
    "node": _id("n", "n.id", "the node"),
    "parent": _id("n", "n.parent_id", "the node's parent"),
    "base": _id("i", "n.base_id", "the implementation the idea builds on"),
    "idea": _text("n.idea", "the idea; ~ looks in its text and rationale", full_text="idea"),
    "rationale": _text("n.rationale", "why the idea should help"),
    "category": _text("n.category", "category of the idea"),
    "round": _number("n.round", "round of the strategy"),
    "state": _text("n.state", "open or pruned", choices=_words(NodeState)),
    "pruned_because": _text("n.pruned_because", "why the node was pruned"),
    "rating": _number("n.rating", "rating by the proposer", better="high"),
}

_FIRST_LINE = "trim(substr(e.message, 1, coalesce(nullif(instr(e.message, char(10)), 0) - 1, 160)))"

EVALUATION: dict[str, Field] = {
    "evaluation": _id("e", "e.id", "the evaluation"),
    "outcome": _text("e.outcome", "how the evaluation ended", choices=_words(Outcome)),
    "stage": _text("e.stage", "where it ended", choices=_words(Stage)),
    "message": _text("e.message", "what the judge said"),
    "reason": _text(f"nullif({_FIRST_LINE}, '')", "the message's first line"),
    "basis": _text("e.basis", "where its figures come from", choices=_words(Basis)),
    "time_ms": _figure("e.time_ms", "the kernel's time", "low"),
    "time_low_ms": _figure("e.time_low_ms", "lower end of the time's 95 % interval", "low"),
    "time_high_ms": _figure("e.time_high_ms", "upper end of the time's 95 % interval", "low"),
    "timing": _text("e.timing", "how it was timed", choices=("screened", "sealed")),
    "eager_ms": _figure("e.eager_ms", "the reference's time, eager", "low"),
    "compile_ms": _figure("e.compile_ms", "the reference's time, torch.compile", "low"),
    "speedup": _figure("e.speedup_eager", "over eager", "high"),
    "speedup_compile": _figure("e.speedup_compile", "over torch.compile", "high"),
    "max_error": _number("e.max_error", "largest error found", better="low"),
    "provenance": _text("e.provenance", "whose kernels it launched", choices=_words(Provenance)),
    "wall_s": _number("e.wall_s", "how long judging took", adds_up=True),
    "protocol": _number("e.protocol", "version of the measuring protocol"),
}

_IMPROVED = """
    SELECT x.id FROM (
        SELECT i0.id, e0.time_ms, e0.eager_ms,
               min(e0.time_ms) OVER (PARTITION BY i0.search_id, e0.basis ORDER BY e0.id, i0.id
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM implementation i0 JOIN evaluation e0 ON e0.id = i0.evaluation_id
        WHERE e0.outcome = 'ok' AND e0.time_ms IS NOT NULL AND i0.duplicate_of IS NULL) x
    WHERE x.time_ms < coalesce(x.before, x.eager_ms, 9e999) AND x.time_ms < coalesce(x.eager_ms, 9e999)"""

_CALLS = "(SELECT sum(c.{column}) FROM completion c WHERE c.job_id = {job} AND c.state NOT IN ('planned', 'sent'))"

IMPLEMENTATION: dict[str, Field] = {
    "implementation": _id("i", "i.id", "the implementation"),
    "repair_of": _id("i", "i.repair_of", "the failed implementation it repairs"),
    "duplicate_of": _id("i", "i.duplicate_of", "an earlier implementation with the same program"),
    "program": _text("i.program", "hash of the program"),
    "code": _text("(SELECT g.code FROM program g WHERE g.hash = i.program)", "the program's text", full_text="code"),
    "text": _text("n.idea", "~ looks in idea, rationale and code", full_text="text"),
    "note": _text("i.note", "the proposer's note"),
    "improvement": Field(
        Kind.FLAG, f"(i.id IN ({_IMPROVED}))", "passed, and faster than the reference and all its search had before"
    ),
}


def spent(job: str) -> dict[str, Field]:
    """What the proposer calls of *job* (SQL) cost."""
    return {
        "cost_usd": _number(
            _CALLS.format(column="cost_usd", job=job), "dollars paid for it", adds_up=True, better="low"
        ),
        "tokens": _number(_CALLS.format(column="tokens", job=job), "tokens paid for it", adds_up=True, better="low"),
    }


COMPLETION: dict[str, Field] = {
    "completion": _number("c.id", "number of the call in the ledger"),
    "job": _id("t", "c.job_id", "the job that it answered"),
    "kind": _text("c.kind", "what was asked for", choices=_words(JobKind)),
    "state": _text("c.state", "how the call ended", choices=_words(CompletionState)),
    "model": _text("c.model", "the proposer asked"),
    "attempt": _number("c.attempt", "which try of the job"),
    "cost_usd": _number("c.cost_usd", "dollars charged", adds_up=True, better="low"),
    "tokens": _number("c.tokens", "tokens charged", adds_up=True, better="low"),
    "input_tokens": _number("c.input_tokens", "tokens sent", adds_up=True, better="low"),
    "output_tokens": _number("c.output_tokens", "tokens received", adds_up=True, better="low"),
    "message": _text("c.error", "why it failed"),
    "request": _text("c.request", "what was sent"),
    "response": _text("c.response", "what came back"),
}

_SEARCH_COSTS = (
    "(SELECT sum(c.{column}) FROM completion c WHERE c.search_id = s.id AND c.state NOT IN ('planned', 'sent'))"
)

OF_SEARCH: dict[str, Field] = {
    "model": _text("(SELECT group_concat(value, ', ') FROM json_each(s.models))", "the proposers"),
    "seed": _number("s.seed", "seed"),
    "elapsed_s": _number("s.elapsed_s", "time spent running", adds_up=True),
    "nodes": _number("(SELECT count(*) FROM node x WHERE x.search_id = s.id)", "how many nodes", adds_up=True),
    "implementations": _number(
        "(SELECT count(*) FROM implementation x WHERE x.search_id = s.id)", "how many implementations", adds_up=True
    ),
    "cost_usd": _number(_SEARCH_COSTS.format(column="cost_usd"), "dollars charged", adds_up=True, better="low"),
    "tokens": _number(_SEARCH_COSTS.format(column="tokens"), "tokens charged", adds_up=True, better="low"),
}


def device_fields(*, owned: bool) -> dict[str, Field]:
    """device, target and architecture as the evaluation has them (*owned*: else where it has none, the search)."""
    key, target = (_KEY, _TARGET) if not owned else ("e.device_key", "e.target")
    look = "(SELECT a.{} FROM architectures a WHERE a.gpu = " + target + ")"
    return {
        "device": SEARCH["device"].at(key, target, "coalesce(ed.name, d.name)" if not owned else "ed.name"),
        "target": SEARCH["target"].at(target),
        "architecture": SEARCH["architecture"].at(look.format("name"), look.format("short"), look.format("arch")),
    }
