"""Conditions to SQL with ``?`` for every value of the query.

A comparison with a missing value is never true, ``!=`` included; ``not`` turns that round. So ``not outcome = ok``
finds what is not judged yet and ``outcome != ok`` does not. SQL's NULL is kept inside ``and`` and ``or``, where it
counts as false in the end, and made false under ``not``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from ...errors import UsageError
from ..ids import parse as parse_id
from .fields import Field, Kind
from .lexer import fault, nearest
from .relations import Relation
from .syntax import All, Among, Any, Compare, Condition, Name, Not, Place, Value

Parameter = str | int | float


@dataclass(frozen=True)
class Sql:
    """SQL text and the values of its ``?``, in order; *facts* are the outside tables it reads."""

    text: str
    values: tuple[Parameter, ...] = ()
    facts: frozenset[str] = frozenset()


def condition(term: Condition, relation: Relation) -> Sql:
    """Raises UsageError for an unknown field, a value that is not of the field's kind, or a comparison it lacks."""
    match term:
        case Compare(name, operator, value):
            return _compare(relation.field(name.text, name.position), name, operator, value)
        case Among(name, values):
            found = relation.field(name.text, name.position)
            return _joined("OR", [_compare(found, name, "=", value) for value in values])
        case Place():
            return _place(term, relation)
        case Not(inner):
            inside = condition(inner, relation)
            return Sql(f"NOT (({inside.text}) IS TRUE)", inside.values, inside.facts)
        case All(terms):
            return _joined("AND", [condition(inner, relation) for inner in terms])
        case Any(terms):
            return _joined("OR", [condition(inner, relation) for inner in terms])
        case _:
            assert_never(term)


def _joined(word: str, parts: list[Sql]) -> Sql:
    """Halves of halves: SQLite limits how deep an expression may be, and a flat chain is as deep as it is long."""
    if len(parts) == 1:
        return parts[0]
    left, right = _joined(word, parts[: len(parts) // 2]), _joined(word, parts[len(parts) // 2 :])
    return Sql(f"({left.text} {word} {right.text})", left.values + right.values, left.facts | right.facts)


def _compare(field: Field, name: Name, operator: str, value: Value) -> Sql:
    facts = frozenset({field.facts} - {""})
    if value.text is None:
        if operator not in ("=", "!="):
            raise fault(value.position, "none", "none can be compared with = and != only")
        return Sql(f"{field.sql} IS {'NOT ' if operator == '!=' else ''}NULL", (), facts)
    if operator == "~":
        text, values = _search(field, name, value.text)
        return Sql(text, values, facts)
    if field.kind in (Kind.FLAG, Kind.ID, Kind.LIST) and operator not in ("=", "!="):
        raise fault(name.position, name.text, f"{name.text} can be compared with = and != only")
    text, values = _equal_or_order(field, name, operator, value)
    return Sql(text, values, facts)


def _equal_or_order(field: Field, name: Name, operator: str, value: Value) -> tuple[str, tuple[Parameter, ...]]:
    typed = value.text or ""
    match field.kind:
        case Kind.NUMBER:
            return f"{field.sql} {operator} ?", (_as_number(name, value),)
        case Kind.TIME:
            return f"{field.sql} {operator} ?", (_as_time(name, value),)
        case Kind.ID:
            return _identity(field, name, operator, value)
        case Kind.FLAG:
            if typed.lower() not in ("yes", "no"):
                raise fault(value.position, typed, f"{name.text} is yes or no")
            return f"{'' if (typed.lower() == 'yes') == (operator == '=') else 'NOT '}{field.sql}", ()
        case Kind.LIST:
            _check_choice(field, name, value)
            sign = ">" if operator == "=" else "="
            return f"instr(', ' || {field.sql} || ', ', ', ' || ? || ', ') {sign} 0", (typed.lower(),)
        case Kind.TEXT:
            _check_choice(field, name, value)
            return _any_of(field, f"{operator} ? COLLATE NOCASE", typed, every=operator == "!=")
        case _:
            assert_never(field.kind)


def _any_of(field: Field, test: str, value: Parameter, *, every: bool = False) -> tuple[str, tuple[Parameter, ...]]:
    """*test* of one of the field's expressions, or of *every* one."""
    looked = (field.sql, *field.also)
    if every:
        # A missing second expression must not make the whole false: only the first one may be missing.
        tests = [f"{looked[0]} {test}", *(f"coalesce({sql} {test}, 1)" for sql in looked[1:])]
        return f"({' AND '.join(tests)})", (value,) * len(looked)
    return f"({' OR '.join(f'{sql} {test}' for sql in looked)})", (value,) * len(looked)


def _check_choice(field: Field, name: Name, value: Value) -> None:
    typed = value.text or ""
    if field.choices and typed.lower() not in field.choices:
        raise fault(value.position, typed, f"{name.text} is never this", nearest(typed, field.choices))


def _as_number(name: Name, value: Value) -> float | int:
    typed = value.text or ""
    try:
        found = (
            float(typed) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", typed, re.ASCII) else math.nan
        )
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise fault(value.position, typed, f"{name.text} is a number")
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def _as_time(name: Name, value: Value) -> float:
    typed = value.text or ""
    try:
        when = datetime.fromisoformat(typed)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise fault(
            value.position, typed, f"{name.text} is a day or a time in UTC", "Write 2026-01-31 or 2026-01-31T12:00."
        ) from None


def _identity(field: Field, name: Name, operator: str, value: Value) -> tuple[str, tuple[Parameter, ...]]:
    typed = value.text or ""
    try:
        letter, number = parse_id(typed)
    except UsageError:
        letter, number = "", 0
    if letter == field.letter:
        return f"{field.sql} {operator} ?", (number,)
    if field.also:  # a search's name
        test = f"{field.also[0]} = ? COLLATE NOCASE"
        return (test if operator == "=" else f"NOT ({test} IS TRUE)"), (typed,)
    raise fault(value.position, typed, f"{name.text} is an id like {field.letter}12")


# ------------------------------------------------------------------------------------------------ searching

_IDEA = "n.id IN (SELECT rowid FROM idea_fts WHERE idea_fts MATCH ?)"
_CODE = "{program} IN (SELECT g.hash FROM program g WHERE g.id IN (SELECT rowid FROM code_fts WHERE code_fts MATCH ?))"


def _search(field: Field, name: Name, text: str) -> tuple[str, tuple[Parameter, ...]]:
    if field.full_text:
        words = _words(text)
        idea, code = f"{{idea rationale}} : ({words})", words
        in_code = _CODE.format(program="i.program")
        match field.full_text:
            case "idea":
                return _IDEA, (idea,)
            case "code":
                return in_code, (code,)
            case _:
                return f"({_IDEA} OR {in_code})", (idea, code)
    if field.kind not in (Kind.TEXT, Kind.LIST):
        raise fault(name.position, name.text, f"~ looks in text, and {name.text} is {_article(field.kind)}")
    literal = re.sub(r"([%_\\])", r"\\\1", text).replace("\x00", "\ufffd")
    return _any_of(field, "LIKE ? ESCAPE '\\'", f"%{literal}%")


def _article(kind: Kind) -> str:
    return {Kind.ID: "an id", Kind.FLAG: "yes or no"}.get(kind, f"a {kind.value}")


def _words(text: str) -> str:
    """FTS5 text that asks for every word of *text*, each as a phrase ("split-k" is split next to k) and nothing in it
    as an operator; a star at a word's end asks for words that begin so. NUL would end the text for SQLite."""
    phrases = []
    for word in text.replace("\x00", " ").split() or [""]:
        star = "*" if word.endswith("*") and len(word) > 1 else ""
        phrases.append('"' + word.rstrip("*").replace('"', '""') + '"' + star)
    return " AND ".join(phrases)


# ------------------------------------------------------------------------------------------------- the tree

_NODES_UNDER = (
    "WITH RECURSIVE t(id) AS (SELECT id FROM node WHERE {start} UNION"
    " SELECT x.id FROM node x JOIN t ON x.parent_id = t.id) SELECT id FROM t"
)
_NODES_ABOVE = (
    "WITH RECURSIVE t(id) AS (SELECT parent_id FROM node WHERE id = {start} UNION"
    " SELECT x.parent_id FROM node x JOIN t ON x.id = t.id) SELECT id FROM t WHERE id IS NOT NULL"
)
# An implementation comes from the one that it repairs, else from the one that its node's idea builds on.
COMES_FROM = (
    "f(id, base) AS MATERIALIZED (SELECT x.id, coalesce(x.repair_of, y.base_id)"
    " FROM implementation x JOIN node y ON y.id = x.node_id)"
)
_MADE_UNDER = (
    f"WITH RECURSIVE {COMES_FROM}, t(id) AS (SELECT CAST(? AS INTEGER) UNION"
    " SELECT f.id FROM t JOIN f ON f.base = t.id) SELECT id FROM t"
)
_MADE_ABOVE = (
    f"WITH RECURSIVE {COMES_FROM}, t(id) AS (SELECT CAST(? AS INTEGER) UNION"
    " SELECT f.base FROM t JOIN f ON f.id = t.id) SELECT id FROM t WHERE id IS NOT NULL"
)


def _place(term: Place, relation: Relation) -> Sql:
    typed = term.id.text or ""
    if not relation.in_tree:
        raise fault(term.id.position, typed, f"{relation.name} have no place in a tree", "Ask --of nodes.")
    try:
        letter, number = parse_id(typed)
    except UsageError:
        letter, number = "", 0
    under = term.where == "under"
    nodes = relation.in_tree == "n"
    if letter == "n":
        if not under:
            return Sql(f"n.id IN ({_NODES_ABOVE.format(start='?')})", (number,))
        # Its own implementations are below a node; it is not below itself.
        return Sql(f"n.id IN ({_NODES_UNDER.format(start='parent_id = ?' if nodes else 'id = ?')})", (number,))
    if letter == "i":
        made = _MADE_UNDER if under else _MADE_ABOVE
        if not nodes:
            return Sql(f"(i.id IN ({made}) AND i.id <> ?)", (number, number))
        if under:
            return Sql(f"n.base_id IN ({made})", (number,))
        own = "(SELECT node_id FROM implementation WHERE id = ?)"
        return Sql(f"(n.id = {own} OR n.id IN ({_NODES_ABOVE.format(start=own)}))", (number, number))
    raise fault(
        term.id.position, typed, f"{term.where} takes the id of a node or an implementation", "Write n12 or i34."
    )
