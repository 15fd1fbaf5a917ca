"""Completions as they were stored, for the ``recorded`` proposer and for exports. Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ..model import CompletionState, Idea, JobKind, Usage
from ..ports import Proposal
from .queries import must_exist
from .store import SqliteStore
from .tables import COMPLETION


@dataclass(frozen=True)
class Recorded:
    """One settled call. ``proposal`` is None where it gave no answer (``error``, ``unknown``, ``abandoned``)."""

    id: int
    search: int
    job: int
    kind: JobKind
    key: str
    problem_digest: str
    model: str
    state: CompletionState
    proposal: Proposal | None
    error: str | None


def completions(store: SqliteStore, search: int) -> Iterator[Recorded]:
    """Every call of *search* that is over, in the order they were planned. Raises NotFound."""
    with store.read() as connection:
        must_exist(connection, search)
        rows = connection.execute(
            select(COMPLETION)
            .where(COMPLETION.c.search_id == search, COMPLETION.c.settled_at.is_not(None))
            .order_by(COMPLETION.c.id)
        ).all()
    for row in rows:
        yield Recorded(
            id=row.id,
            search=row.search_id,
            job=row.job_id,
            kind=JobKind(row.kind),
            key=row.key,
            problem_digest=row.problem_digest,
            model=row.model,
            state=CompletionState(row.state),
            proposal=_proposal(row) if row.state == CompletionState.OK and row.proposal is not None else None,
            error=row.error,
        )


def completion_for(store: SqliteStore, problem_digest: str, key: str, *, search: int | None = None) -> Proposal | None:
    """The newest answer to *key* on the problem, from *search* alone where one is given (several searches of one
    problem answer the same keys differently). None where there is none."""
    statement = select(COMPLETION).where(
        COMPLETION.c.problem_digest == problem_digest,
        COMPLETION.c.key == key,
        COMPLETION.c.state == str(CompletionState.OK),
        COMPLETION.c.proposal.is_not(None),
    )
    if search is not None:
        statement = statement.where(COMPLETION.c.search_id == search)
    with store.read() as connection:
        row = connection.execute(statement.order_by(COMPLETION.c.id.desc()).limit(1)).first()
    return None if row is None else _proposal(row)


def _proposal(row: Any) -> Proposal:
    parsed = row.proposal
    return Proposal(
        ideas=tuple(Idea(**idea) for idea in parsed["ideas"]),
        code=parsed["code"],
        ratings=tuple(parsed["ratings"]),
        usage=Usage(row.input_tokens, row.output_tokens, row.cost_usd, **parsed.get("usage", {})),
        note=parsed["note"],
        request_text=row.request or "",
        response_text=row.response or "",
    )
