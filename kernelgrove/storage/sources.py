"""Programs as people name them, for ``diff``: an implementation, an evaluation, a search's best, or a hash."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection

from ..errors import NotFound, UsageError
from . import views
from .ids import KINDS, parse, show
from .overview import best
from .queries import rows, value
from .store import SqliteStore

_HASH = re.compile(r"[0-9a-f]{6,64}")
_EVALUATION = re.compile(r"e[0-9]{1,18}")  # hex digits all, and an id all the same


@dataclass(frozen=True)
class Source:
    """A program under the name it was asked for: ``name`` is an id or the start of a hash."""

    name: str
    program: str
    code: str


def source(store: SqliteStore, text: str) -> Source:
    """The program that *text* names: ``i3``, ``e4`` (what it judged), ``s1`` (its best), or at least six hex digits of
    a hash. Raises UsageError for another kind of id or a hash of several programs, NotFound."""
    text = text.strip().lower()
    if _HASH.fullmatch(text) and not _EVALUATION.fullmatch(text):
        with store.read() as connection:
            return _by_hash(connection, text)
    kind, number = parse(text)
    if kind == "s":
        found = best(store, number)
        if found is None:
            raise NotFound(f"{text}: no implementation has passed yet.", "Name an implementation, like i3.")
        kind, number = parse(found["implementation"])
    if kind not in "ie":
        raise UsageError(f"{text} is a {KINDS[kind]}, which has no one program.", "Give an id like i3, e4 or s1.")
    with store.read() as connection:
        program = value(connection, f"SELECT program FROM {KINDS[kind]} WHERE id = :id", id=number)
        if program is None:
            raise NotFound(f"There is no {KINDS[kind]} {show(kind, number)} in this database.")
        return Source(show(kind, number), program, views.code(connection, program))


_BASE = """
SELECT coalesce(i.repair_of, n.base_id) FROM implementation i JOIN node n ON n.id = i.node_id WHERE i.id = :id
"""


def base_of(store: SqliteStore, text: str) -> str:
    """What the implementation *text* was made from, as an id. Raises UsageError where that is the reference."""
    kind, number = parse(text)
    if kind != "i":
        raise UsageError(f"{text} builds on no one program.", "Give a second id to compare it with.")
    with store.read() as connection:
        if value(connection, "SELECT 1 FROM implementation WHERE id = :id", id=number) is None:
            raise NotFound(f"There is no implementation {text} in this database.")
        found = value(connection, _BASE, id=number)
    if found is None:
        raise UsageError(f"{text} was written from the reference alone.", "Give a second id to compare it with.")
    return show("i", found)


def _by_hash(connection: Connection, start: str) -> Source:
    found = rows(connection, "SELECT hash, code FROM program WHERE hash BETWEEN :a AND :b", a=start, b=start + "g")
    if not found:
        raise NotFound(f"There is no program {start} in this database.")
    if len(found) > 1:
        raise UsageError(f"{start} is the start of {len(found)} programs' hashes.", "Give more digits.")
    return Source(start[:12], *found[0])
