"""The job machine: ``queued -> leased -> done | failed``, an expired lease back to ``queued`` with attempt + 1, past
the maximum ``dead``. Functions of a connection with a write transaction open, unless they say they only read.

A lease is held by (owner, attempt). Nothing that its former holder does later has any effect: every change is fenced
by ``id, owner, attempt`` and the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from ..errors import Conflict, NotFound
from ..model import Action, JobKind, JobState, NodeState, Prune
from ..ports import Job, PlannedJob
from .ledger import unsettled_owners
from .queries import must_exist
from .statements import Statement, adding, one_of
from .tables import DECISION, JOB, NODE

QUEUED, LEASED, FAILED, DEAD = (str(s) for s in (JobState.QUEUED, JobState.LEASED, JobState.FAILED, JobState.DEAD))


# ------------------------------------------------------------------------------------------------ planning

# Steps are recorded without gaps; the last one is found in the index, where counting would walk all of them.
_HERE = Statement(select(func.max(DECISION.c.step)).where(DECISION.c.search_id == bindparam("search")))
_DECIDE = adding(DECISION)


def record(
    connection: Connection,
    search: int,
    step: int,
    actions: Sequence[Action],
    jobs: Sequence[PlannedJob],
    note: str,
    now: float,
) -> tuple[int, ...]:
    """Decision number *step*, its prunes and its jobs. Raises Conflict when *step* is not the next one."""
    last = _HERE.value(connection, search=search)
    if last is None:
        must_exist(connection, search)
    here = 0 if last is None else last + 1
    if here != step:
        raise Conflict(
            f"Search s{search} is at step {here}, not {step}: another controller moved it on.",
            "Run one controller a search; this one stops.",
        )
    told = [{"action": type(action).__name__.lower(), **asdict(action)} for action in actions]
    _DECIDE.change(connection, search_id=search, step=step, actions=told, note=note, created_at=now)
    for action in actions:
        if isinstance(action, Prune):
            _prune(connection, search, action)
    return tuple(queue(connection, search, job, now, step) for job in jobs)


_STATE_OF = Statement(
    select(NODE.c.state).where(NODE.c.id == bindparam("node"), NODE.c.search_id == bindparam("search"))
)
_PRUNE = Statement(
    update(NODE)
    .where(NODE.c.id == bindparam("node"))
    .values(state=str(NodeState.PRUNED), pruned_because=bindparam("because"))
)


def _prune(connection: Connection, search: int, action: Prune) -> None:
    """A node that is pruned already keeps its first reason."""
    here = _STATE_OF.value(connection, node=action.node, search=search)
    if here is None:
        raise NotFound(f"There is no node n{action.node} in search s{search}.")
    if here == NodeState.OPEN:
        _PRUNE.change(connection, node=action.node, because=action.because)


def _queue(siblings: ColumnElement[bool] | None) -> Statement:
    """Insert a queued job; its ordinal is how many jobs of its kind in its search are its *siblings*."""
    ordinal: Any = literal(0)
    if siblings is not None:
        of = and_(JOB.c.search_id == bindparam("search_id"), JOB.c.kind == bindparam("kind"), siblings)
        ordinal = select(func.count()).where(of).scalar_subquery()
    given = "search_id step kind key payload node_id implementation_id max_attempts created_at".split()
    fixed = {"state": QUEUED, "attempt": 1, "model": "", "note": "", "ordinal": ordinal}
    return Statement(
        insert(JOB)
        .values({**{name: bindparam(name, type_=JOB.c[name].type) for name in given}, **fixed})
        .returning(JOB.c.id)
    )


_QUEUE: dict[JobKind, Statement] = {
    JobKind.IDEATE: _queue(JOB.c.node_id == bindparam("node_id")),
    JobKind.REPAIR: _queue(JOB.c.implementation_id == bindparam("implementation_id")),
}
_QUEUE_ANY = _queue(None)


def queue(connection: Connection, search: int, job: PlannedJob, now: float, step: int | None = None) -> int:
    """Add *job*; its ordinal among its siblings (see ``tables``) is counted here, before any of them runs."""
    node, implementation = job.node, job.implementation
    if job.kind is JobKind.IDEATE:
        node = job.payload.get("parent", node)
    elif job.kind is JobKind.REPAIR:
        implementation = implementation or job.payload.get("implementation")
    elif job.kind is JobKind.IMPLEMENT:
        node = node or job.payload.get("node")
    made: int = _QUEUE.get(job.kind, _QUEUE_ANY).value(
        connection,
        search_id=search,
        step=step,
        kind=str(job.kind),
        key=job.key,
        payload=dict(job.payload),
        node_id=node,
        implementation_id=implementation,
        max_attempts=max(1, job.max_attempts),
        created_at=now,
    )
    return made


# ------------------------------------------------------------------------------------------------- leasing

_NOW = bindparam("now", type_=JOB.c.lease_until.type)
_OWNER = bindparam("by", type_=JOB.c.owner.type)
_BESIDES = bindparam("besides", type_=JOB.c.owner.type)


class _Claiming:
    """The statements that lease a job of *kinds*, from one search or (*anywhere*) from all."""

    def __init__(self, kinds: tuple[str, ...], anywhere: bool) -> None:
        # A process's own lease is never over for itself: it renews what it works on, and whose clock jumped ahead must
        # not run its own job twice.
        expired = and_(JOB.c.state == LEASED, JOB.c.lease_until <= _NOW, JOB.c.owner != _BESIDES)
        wanted = and_(one_of(JOB.c.kind, kinds), or_(JOB.c.state == QUEUED, expired))
        if not anywhere:
            # "+ 0" keeps the planner on the index by state: by search it would walk every job that is done.
            wanted = and_(wanted, JOB.c.search_id + 0 == bindparam("search"))
        self.any = Statement(select(JOB.c.id).where(wanted).limit(1))
        oldest = select(JOB.c.id).where(wanted).order_by(JOB.c.id).limit(1).correlate(None).scalar_subquery()
        taken_over = JOB.c.state == LEASED  # an assignment sees the row as it was
        ran_out = "the lease of attempt " + JOB.c.attempt.cast(Text) + " ran out"
        self.take = Statement(
            update(JOB)
            .where(JOB.c.id == oldest)
            .values(
                state=LEASED,
                owner=_OWNER,
                attempt=JOB.c.attempt + case((taken_over, 1), else_=0),
                reason=case((taken_over, ran_out), else_=JOB.c.reason),
                lease_until=bindparam("until"),
                started_at=_NOW,
            )
            .returning(*(JOB.c[name] for name in _JOB.split()))
        )


_JOB = "id search_id kind key payload node_id implementation_id owner attempt max_attempts"


@cache
def _claiming(kinds: tuple[str, ...], anywhere: bool) -> _Claiming:
    return _Claiming(kinds, anywhere)


def _asked(search: int | None, owner: str, now: float) -> dict[str, Any]:
    """The values that say what may be claimed. An owner without a colon is no process but a name, which may come back
    for what it let run out."""
    asked = {"now": now, "besides": owner if ":" in owner else ""}
    return asked if search is None else {**asked, "search": search}


def anything_to_claim(
    connection: Connection, search: int | None, owner: str, kinds: tuple[str, ...], now: float
) -> bool:
    """Only reads."""
    return _claiming(kinds, search is None).any.value(connection, **_asked(search, owner, now)) is not None


def claim(
    connection: Connection, search: int | None, owner: str, kinds: tuple[str, ...], now: float, until: float
) -> Job | None:
    """The oldest job of these kinds that is queued or whose lease is over, leased to *owner* until *until*."""
    take = _claiming(kinds, search is None).take
    while (row := take.first(connection, by=owner, until=until, **_asked(search, owner, now))) is not None:
        id_, of, kind, key, payload, node, implementation, holder, attempt, most = row
        if attempt <= most:
            return Job(id_, of, JobKind(kind), key, payload, node, implementation, holder, attempt)
        _OVER.change(connection, job=id_, now=now)  # the attempt that it had no more
    return None


def claim_one(connection: Connection, job: int, owner: str, now: float, until: float) -> Job | None:
    """Job *job*, if it is queued, its lease is over, or *owner* holds it: leased to *owner* until *until*."""
    free = or_(JOB.c.state == QUEUED, and_(JOB.c.state == LEASED, or_(JOB.c.lease_until <= now, JOB.c.owner == owner)))
    lost = and_(JOB.c.state == LEASED, JOB.c.owner != owner)
    taken = (
        update(JOB)
        .where(JOB.c.id == job, free)
        .values(
            state=LEASED,
            owner=owner,
            attempt=JOB.c.attempt + case((lost, 1), else_=0),
            lease_until=until,
            started_at=now,
        )
        .returning(*(JOB.c[name] for name in _JOB.split()))
    )
    row = connection.execute(taken).first()
    if row is None:
        return None
    id_, of, kind, key, payload, node, implementation, holder, attempt, _ = row
    return Job(id_, of, JobKind(kind), key, payload, node, implementation, holder, attempt)


#: The fence: a job is still leased to who claimed it, in the attempt it was claimed for. Values: ``fence``.
HELD = and_(
    JOB.c.id == bindparam("held_id"),
    JOB.c.state == LEASED,
    JOB.c.owner == bindparam("held_by"),
    JOB.c.attempt == bindparam("held_attempt"),
)


def fence(job: Job) -> dict[str, Any]:
    return {"held_id": job.id, "held_by": job.owner, "held_attempt": job.attempt}


_RENEW = Statement(update(JOB).where(HELD).values(lease_until=bindparam("until")))


def renew(connection: Connection, job: Job, until: float) -> bool:
    return _RENEW.change(connection, until=until, **fence(job)) == 1


# ---------------------------------------------------------------------------------------------- giving up


def _dead(why: str | ColumnElement[str], attempts: ColumnElement[int] = JOB.c.attempt) -> dict[str, Any]:
    reason = "given up after " + attempts.cast(Text) + " attempts: " + why
    return {"state": DEAD, "reason": reason, "owner": null(), "lease_until": null(), "finished_at": _NOW}


_OVER = Statement(
    update(JOB)
    .where(JOB.c.id == bindparam("job"))
    .values({**_dead("its lease ran out", JOB.c.max_attempts), "attempt": JOB.c.max_attempts})
)


def _requeued(reason: Any) -> dict[str, Any]:
    return {
        "state": QUEUED,
        "attempt": JOB.c.attempt + 1,
        "reason": reason,
        "owner": null(),
        "lease_until": null(),
    }


_REASON = bindparam("why", type_=JOB.c.reason.type)
_FAIL = Statement(update(JOB).where(HELD).values(state=FAILED, reason=_REASON, lease_until=null(), finished_at=_NOW))
_FAIL_LAST = Statement(update(JOB).where(HELD, JOB.c.attempt >= JOB.c.max_attempts).values(_dead(_REASON)))
_FAIL_AGAIN = Statement(update(JOB).where(HELD).values(_requeued(_REASON)))


def fail(connection: Connection, job: Job, reason: str, retry: bool, now: float) -> bool:
    held = fence(job)
    if not retry:
        return _FAIL.change(connection, why=reason, now=now, **held) == 1
    if _FAIL_LAST.change(connection, why=reason, now=now, **held) == 1:
        return True
    return _FAIL_AGAIN.change(connection, why=reason, **held) == 1


_GIVE_BACK = Statement(update(JOB).where(HELD).values(state=QUEUED, owner=None, lease_until=None))


def give_back(connection: Connection, job: Job) -> bool:
    return _GIVE_BACK.change(connection, **fence(job)) == 1


def release(connection: Connection, owner: str) -> int:
    values = {"state": QUEUED, "owner": None, "lease_until": None}
    return connection.execute(update(JOB).where(JOB.c.state == LEASED, JOB.c.owner == owner).values(values)).rowcount


def owners(connection: Connection, search: int) -> tuple[str, ...]:
    """Who holds jobs of *search*, or has calls that are not settled. Only reads. Raises NotFound."""
    must_exist(connection, search)
    # "+ 0" as above: what is leased is little, what is done is much.
    leased = select(JOB.c.owner).where(JOB.c.search_id + 0 == search, JOB.c.state == LEASED).distinct()
    holding = connection.execute(leased).scalars()
    return tuple(sorted({*holding, *unsettled_owners(connection, search)}))


def recover(connection: Connection, search: int, gone: Iterable[str], now: float) -> int:
    """Queue again what owners that are *gone* held, and what ran past its lease; past the last attempt it is dead.
    Returns how many were queued."""
    lost = and_(
        JOB.c.search_id + 0 == search,
        JOB.c.state == LEASED,
        or_(JOB.c.lease_until <= now, JOB.c.owner.in_(tuple(gone))),
    )
    why = "its worker died or its lease ran out"
    dead = update(JOB).where(lost, JOB.c.attempt >= JOB.c.max_attempts).values(_dead(why))
    connection.execute(dead, {"now": now})
    return connection.execute(update(JOB).where(lost).values(_requeued(f"attempt lost: {why}"))).rowcount
