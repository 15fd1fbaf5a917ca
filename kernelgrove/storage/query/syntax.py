"""A query as a tree of frozen values, and back to text. Positions (characters from 0) are no part of equality."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Words that are never a bare value.
RESERVED = frozenset("and or not in under above by per on none".split())

_BARE = re.compile(r"[\w.:/+\-*%@#$]+")


def _position() -> int:
    return field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Value:
    """A value as typed, quotes taken off; None is the word ``none``. What it means depends on the field."""

    text: str | None
    position: int = _position()


@dataclass(frozen=True)
class Name:
    """A field's name as typed."""

    text: str
    position: int = _position()


@dataclass(frozen=True)
class Compare:
    name: Name
    operator: str  # one of = != < <= > >= ~
    value: Value


@dataclass(frozen=True)
class Among:
    name: Name
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Place:
    """``under n12`` (below in the tree) or ``above i34``; *id* as typed."""

    where: str  # under, above
    id: Value


@dataclass(frozen=True)
class Not:
    term: Condition


@dataclass(frozen=True)
class All:
    """Every one of at least two terms."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True)
class Any:
    """At least one of at least two terms."""

    terms: tuple[Condition, ...]


Condition = Compare | Among | Place | Not | All | Any


@dataclass(frozen=True)
class Stage:
    """``best 3 by speedup per problem``: what a stage has of number, figure, names and value depends on its word."""

    word: str
    number: int | None = None
    figure: Name | None = None
    names: tuple[Name, ...] = ()
    value: Value | None = None
    position: int = _position()


@dataclass(frozen=True)
class Query:
    condition: Condition | None = None
    stages: tuple[Stage, ...] = ()


def places(query: Query) -> Iterator[Place]:
    """Every ``under`` and ``above`` of *query*."""
    waiting = [] if query.condition is None else [query.condition]
    while waiting:
        match waiting.pop():
            case Place() as place:
                yield place
            case Not(inner):
                waiting.append(inner)
            case All(terms) | Any(terms):
                waiting += terms


def write(query: Query) -> str:
    """The shortest usual text of *query*: ``parse(write(q)) == q``."""
    parts = [] if query.condition is None else [_condition(query.condition)]
    return " | ".join([*parts, *(_stage(stage) for stage in query.stages)])


def _condition(term: Condition) -> str:
    match term:
        case Compare(name, operator, value):
            return f"{name.text} {operator} {_value(value)}"
        case Among(name, values):
            return f"{name.text} in ({', '.join(map(_value, values))})"
        case Place(where, id):
            return f"{where} {_value(id)}"
        case Not(inner):
            return f"not {_nested(inner, All | Any)}"
        case All(terms):
            return " and ".join(_nested(inner, All | Any) for inner in terms)
        case Any(terms):
            return " or ".join(_nested(inner, Any) for inner in terms)


def _nested(term: Condition, weaker: object) -> str:
    text = _condition(term)
    return f"({text})" if isinstance(term, weaker) else text  # type: ignore[arg-type]


def _stage(stage: Stage) -> str:
    words = [stage.word]
    if stage.number is not None:
        words.append(str(stage.number))
    names = ", ".join(name.text for name in stage.names)
    if stage.word == "best":
        words += ["by", stage.figure.text] if stage.figure else []
        words += ["per", names] if names else []
    else:
        words += [stage.figure.text] if stage.figure else []
        words += ["by", names] if names else []
    words += ["on", _value(stage.value)] if stage.value else []
    return " ".join(words)


def _value(value: Value) -> str:
    if value.text is None:
        return "none"
    if _BARE.fullmatch(value.text) and value.text.lower() not in RESERVED:
        return value.text
    escaped = value.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
