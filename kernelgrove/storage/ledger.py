"""The ledger of paid calls: ``planned -> sent -> ok | error | unknown | abandoned``, a row a try, never rewritten.

A row is planned before the call is made, so that no call goes uncounted. After a crash a planned one was free and a
sent one may have been billed: it is charged at its reservation. A call that was in flight may be made, and paid,
again; it is counted both times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, not_, or_, select, update

from ..errors import Conflict, NotFound
from ..model import CompletionState, JobState
from ..ports import Job, Proposal, ProposalRequest
from .statements import Statement, adding
from .tables import COMPLETION, JOB

PLANNED, SENT = str(CompletionState.PLANNED), str(CompletionState.SENT)
OPEN = (PLANNED, SENT)

#: Fields of Usage that are kept under ``usage`` in the column ``proposal``.
USAGE_DETAILS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "estimated")


_PLAN = adding(COMPLETION)
_NOTHING: dict[str, Any] = dict.fromkeys(
    "input_tokens output_tokens tokens cost_usd request response proposal error sent_at settled_at".split()
)


def plan(
    connection: Connection,
    job: Job,
    model: str,
    request: ProposalRequest,
    reserve_usd: float,
    reserve_tokens: int,
    now: float,
) -> int:
    made: int = _PLAN.value(
        connection,
        **_NOTHING,
        search_id=job.search,
        job_id=job.id,
        owner=job.owner,
        attempt=job.attempt,
        kind=str(request.kind),
        key=request.key,
        problem_digest=request.problem.digest,
        model=model,
        state=PLANNED,
        reserve_usd=reserve_usd,
        reserve_tokens=reserve_tokens,
        created_at=now,
    )
    return made


_ROW = COMPLETION.c.id == bindparam("completion")
_STATE = Statement(select(COMPLETION.c.state).where(_ROW))
_RESERVED = Statement(select(COMPLETION.c.reserve_usd, COMPLETION.c.reserve_tokens).where(_ROW))
_SENT = Statement(update(COMPLETION).where(_ROW).values(state=SENT, sent_at=bindparam("now")))


def _state(connection: Connection, completion: int) -> str:
    state = _STATE.value(connection, completion=completion)
    if state is None:
        raise NotFound(f"There is no completion {completion} in this database.")
    return str(state)


def mark_sent(connection: Connection, completion: int, now: float) -> None:
    """Raises Conflict when it is settled: its job was taken back meanwhile, and the call must not be made."""
    state = _state(connection, completion)
    if state not in OPEN:
        raise Conflict(f"Completion {completion} is {state} already: its job was taken back.", "Do not send it.")
    _SENT.change(connection, completion=completion, now=now)


_SETTLED = "state error settled_at input_tokens output_tokens tokens cost_usd request response proposal".split()
_SETTLE = Statement(
    update(COMPLETION)
    .where(_ROW)
    .values({name: bindparam(f"new_{name}", type_=COMPLETION.c[name].type) for name in _SETTLED})
)


def settle(
    connection: Connection,
    completion: int,
    ok: bool,
    proposal: Proposal | None,
    error: str | None,
    now: float,
    *,
    unknown: bool = False,
) -> None:
    """Settles once: a row that is settled already (charged as unknown after a lost lease) stays as it is.

    With *unknown* the call may have been billed: it is charged at its reservation, whatever the proposal says.
    """
    if _state(connection, completion) not in OPEN:
        return
    values: dict[str, Any] = {
        "state": str(CompletionState.OK if ok else CompletionState.ERROR),
        "error": error,
        "settled_at": now,
        "input_tokens": 0,
        "output_tokens": 0,
        "tokens": 0,
        "cost_usd": 0.0,
        "request": None,
        "response": None,
        "proposal": None,
    }
    if proposal is not None:
        usage = proposal.usage
        values |= {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "tokens": usage.input_tokens + usage.output_tokens,
            "cost_usd": usage.cost_usd,
            "request": proposal.request_text,
            "response": proposal.response_text,
            "proposal": _parsed(proposal),
        }
    if unknown:
        usd, tokens = _RESERVED.first(connection, completion=completion) or (0.0, 0)
        values |= {
            "state": str(CompletionState.UNKNOWN),
            "input_tokens": None,
            "output_tokens": None,
            "tokens": tokens,
            "cost_usd": usd,
        }
    _SETTLE.change(connection, completion=completion, **{f"new_{name}": value for name, value in values.items()})


def _parsed(proposal: Proposal) -> dict[str, Any]:
    """The answer without its raw texts, which have columns of their own; ``recorded`` reads it back.

    What of the usage has no column stands under ``usage`` where it is not zero, ``failure`` where there was one."""
    usage = proposal.usage
    parsed = {
        "ideas": [asdict(idea) for idea in proposal.ideas],
        "code": proposal.code,
        "ratings": list(proposal.ratings),
        "note": proposal.note,
    }
    details = {name: getattr(usage, name) for name in USAGE_DETAILS if getattr(usage, name)}
    return (
        parsed | ({"usage": details} if details else {}) | ({"failure": proposal.failure} if proposal.failure else {})
    )


def unsettled_owners(connection: Connection, search: int) -> tuple[str, ...]:
    """Only reads."""
    open_ = and_(COMPLETION.c.search_id == search, COMPLETION.c.state.in_(OPEN))
    return tuple(connection.execute(select(COMPLETION.c.owner).where(open_).distinct()).scalars())


def settle_orphans(connection: Connection, search: int, gone: Iterable[str], now: float) -> None:
    """Settle open calls of owners that are *gone*, or whose job is no longer held in the attempt they belong to."""
    holds = (
        select(JOB.c.id)
        .where(
            JOB.c.id == COMPLETION.c.job_id,
            JOB.c.state == str(JobState.LEASED),
            JOB.c.owner == COMPLETION.c.owner,
            JOB.c.attempt == COMPLETION.c.attempt,
        )
        .exists()
    )
    orphan: ColumnElement[bool] = and_(
        COMPLETION.c.search_id == search, or_(COMPLETION.c.owner.in_(tuple(gone)), not_(holds))
    )
    connection.execute(
        update(COMPLETION)
        .where(orphan, COMPLETION.c.state == PLANNED)
        .values(state=str(CompletionState.ABANDONED), tokens=0, cost_usd=0.0, settled_at=now)
    )
    connection.execute(
        update(COMPLETION)
        .where(orphan, COMPLETION.c.state == SENT)
        .values(
            state=str(CompletionState.UNKNOWN),
            tokens=COMPLETION.c.reserve_tokens,
            cost_usd=COMPLETION.c.reserve_usd,
            settled_at=now,
        )
    )
