"""The job machine: ``queued -> leased -> done | failed``, an expired lease back to ``queued`` with attempt + 1, past
the maximum ``dead``. Functions of a connection with a write transaction open, unless they say they only read.

A lease is held by (owner, attempt). Nothing that its former holder does later has any effect: every change is fenced
by ``id, owner, attempt`` and the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Text, and_, case, func, insert, or_, select, update

from ..errors import Conflict, NotFound
from ..model import Action, JobKind, JobState, NodeState, Prune
from ..ports import Job, PlannedJob
from .ledger import unsettled_owners
from .queries import must_exist
from .tables import DECISION, JOB, NODE

QUEUED, LEASED, FAILED, DEAD = (str(s) for s in (JobState.QUEUED, JobState.LEASED, JobState.FAILED, JobState.DEAD))


# ------------------------------------------------------------------------------------------------ planning


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
    must_exist(connection, search)
    # Steps are recorded without gaps; the last one is found in the index, where counting would walk all of them.
    last = connection.execute(select(func.max(DECISION.c.step)).where(DECISION.c.search_id == search)).scalar()
    here = 0 if last is None else last + 1
    if here != step:
        raise Conflict(
            f"Search s{search} is at step {here}, not {step}: another controller moved it on.",
            "Run one controller a search; this one stops.",
        )
    connection.execute(
        insert(DECISION).values(
            search_id=search,
            step=step,
            actions=[{"action": type(action).__name__.lower(), **asdict(action)} for action in actions],
            note=note,
            created_at=now,
        )
    )
    for action in actions:
        if isinstance(action, Prune):
            _prune(connection, search, action)
    return tuple(queue(connection, search, job, now, step) for job in jobs)


def _prune(connection: Connection, search: int, action: Prune) -> None:
    """A node that is pruned already keeps its first reason."""
    here = connection.execute(select(NODE.c.state).where(NODE.c.id == action.node, NODE.c.search_id == search)).scalar()
    if here is None:
        raise NotFound(f"There is no node n{action.node} in search s{search}.")
    if here == NodeState.OPEN:
        connection.execute(
            update(NODE)
            .where(NODE.c.id == action.node)
            .values(state=str(NodeState.PRUNED), pruned_because=action.because)
        )


def queue(connection: Connection, search: int, job: PlannedJob, now: float, step: int | None = None) -> int:
    """Add *job*; its ordinal among its siblings (see ``tables``) is counted here, before any of them runs."""
    node, implementation, ordinal = job.node, job.implementation, 0
    siblings: ColumnElement[bool] | None = None
    if job.kind is JobKind.IDEATE:
        node = job.payload.get("parent", node)
        siblings = JOB.c.node_id == node
    elif job.kind is JobKind.REPAIR:
        implementation = implementation or job.payload.get("implementation")
        siblings = JOB.c.implementation_id == implementation
    elif job.kind is JobKind.IMPLEMENT:
        node = node or job.payload.get("node")
    if siblings is not None:
        count = select(func.count()).where(JOB.c.search_id == search, JOB.c.kind == str(job.kind), siblings)
        ordinal = connection.execute(count).scalar_one()
    statement = insert(JOB).values(
        search_id=search,
        step=step,
        kind=str(job.kind),
        key=job.key,
        ordinal=ordinal,
        payload=dict(job.payload),
        node_id=node,
        implementation_id=implementation,
        state=QUEUED,
        attempt=1,
        max_attempts=max(1, job.max_attempts),
        model="",
        note="",
        created_at=now,
    )
    return int(connection.execute(statement.returning(JOB.c.id)).scalar_one())


# ------------------------------------------------------------------------------------------------- leasing


def _claimable(search: int | None, kinds: Sequence[str], now: float) -> ColumnElement[bool]:
    expired = and_(JOB.c.state == LEASED, JOB.c.lease_until <= now)
    wanted = and_(JOB.c.kind.in_(kinds), or_(JOB.c.state == QUEUED, expired))
    # "+ 0" keeps the planner on the index by state: by search it would walk every job that is done.
    return wanted if search is None else and_(wanted, JOB.c.search_id + 0 == search)


def anything_to_claim(connection: Connection, search: int | None, kinds: Sequence[str], now: float) -> bool:
    """Only reads."""
    found = connection.execute(select(JOB.c.id).where(_claimable(search, kinds, now)).limit(1)).scalar()
    return found is not None


def claim(
    connection: Connection, search: int | None, owner: str, kinds: Sequence[str], now: float, until: float
) -> Job | None:
    """The oldest job of these kinds that is queued or whose lease is over, leased to *owner* until *until*."""
    connection.execute(
        update(JOB)
        .where(_claimable(search, kinds, now), JOB.c.state == LEASED, JOB.c.attempt >= JOB.c.max_attempts)
        .values(_dead("its lease ran out", now))
    )
    queued = select(JOB.c.id).where(_claimable(search, kinds, now)).order_by(JOB.c.id).limit(1)
    oldest = queued.correlate(None).scalar_subquery()
    taken_over = JOB.c.state == LEASED  # an assignment sees the row as it was
    ran_out = "the lease of attempt " + JOB.c.attempt.cast(Text) + " ran out"
    row = (
        connection.execute(
            update(JOB)
            .where(JOB.c.id == oldest)
            .values(
                state=LEASED,
                owner=owner,
                attempt=JOB.c.attempt + case((taken_over, 1), else_=0),
                reason=case((taken_over, ran_out), else_=JOB.c.reason),
                lease_until=until,
                started_at=now,
            )
            .returning(*JOB.c)
        )
        .mappings()
        .first()
    )
    return None if row is None else _job(row)


def claim_one(connection: Connection, job: int, owner: str, now: float, until: float) -> Job | None:
    """Job *job*, if it is queued, its lease is over, or *owner* holds it: leased to *owner* until *until*."""
    free = or_(JOB.c.state == QUEUED, and_(JOB.c.state == LEASED, or_(JOB.c.lease_until <= now, JOB.c.owner == owner)))
    lost = and_(JOB.c.state == LEASED, JOB.c.owner != owner)
    row = (
        connection.execute(
            update(JOB)
            .where(JOB.c.id == job, free)
            .values(
                state=LEASED,
                owner=owner,
                attempt=JOB.c.attempt + case((lost, 1), else_=0),
                lease_until=until,
                started_at=now,
            )
            .returning(*JOB.c)
        )
        .mappings()
        .first()
    )
    return None if row is None else _job(row)


def _job(row: RowMapping) -> Job:
    return Job(
        id=row["id"],
        search=row["search_id"],
        kind=JobKind(row["kind"]),
        key=row["key"],
        payload=row["payload"],
        node=row["node_id"],
        implementation=row["implementation_id"],
        owner=row["owner"],
        attempt=row["attempt"],
    )


def held(job: Job) -> ColumnElement[bool]:
    """The fence: *job* is still leased to who claimed it, in the attempt it was claimed for."""
    return and_(JOB.c.id == job.id, JOB.c.state == LEASED, JOB.c.owner == job.owner, JOB.c.attempt == job.attempt)


def renew(connection: Connection, job: Job, until: float) -> bool:
    return connection.execute(update(JOB).where(held(job)).values(lease_until=until)).rowcount == 1


# ---------------------------------------------------------------------------------------------- giving up


def _dead(why: str, now: float) -> dict[str, Any]:
    reason = "given up after " + JOB.c.attempt.cast(Text) + f" attempts: {why}"
    return {"state": DEAD, "reason": reason, "owner": None, "lease_until": None, "finished_at": now}


def fail(connection: Connection, job: Job, reason: str, retry: bool, now: float) -> bool:
    if not retry:
        values: dict[str, Any] = {"state": FAILED, "reason": reason, "lease_until": None, "finished_at": now}
        return connection.execute(update(JOB).where(held(job)).values(values)).rowcount == 1
    dead = update(JOB).where(held(job), JOB.c.attempt >= JOB.c.max_attempts).values(_dead(reason, now))
    if connection.execute(dead).rowcount == 1:
        return True
    again = update(JOB).where(held(job)).values(_requeued(reason))
    return connection.execute(again).rowcount == 1


def _requeued(reason: str) -> dict[str, Any]:
    return {"state": QUEUED, "attempt": JOB.c.attempt + 1, "reason": reason, "owner": None, "lease_until": None}


def give_back(connection: Connection, job: Job) -> bool:
    values = {"state": QUEUED, "owner": None, "lease_until": None}
    return connection.execute(update(JOB).where(held(job)).values(values)).rowcount == 1


def release(connection: Connection, owner: str) -> int:
    values = {"state": QUEUED, "owner": None, "lease_until": None}
    return connection.execute(update(JOB).where(JOB.c.state == LEASED, JOB.c.owner == owner).values(values)).rowcount


def owners(connection: Connection, search: int) -> tuple[str, ...]:
    """Who holds jobs of *search*, or has calls that are not settled. Only reads. Raises NotFound."""
    must_exist(connection, search)
    holding = connection.execute(
        select(JOB.c.owner).where(JOB.c.search_id == search, JOB.c.state == LEASED).distinct()
    ).scalars()
    return tuple(sorted({*holding, *unsettled_owners(connection, search)}))


def recover(connection: Connection, search: int, gone: Iterable[str], now: float) -> int:
    """Queue again what owners that are *gone* held, and what ran past its lease; past the last attempt it is dead.
    Returns how many were queued."""
    lost = and_(
        JOB.c.search_id == search,
        JOB.c.state == LEASED,
        or_(JOB.c.lease_until <= now, JOB.c.owner.in_(tuple(gone))),
    )
    why = "its worker died or its lease ran out"
    connection.execute(update(JOB).where(lost, JOB.c.attempt >= JOB.c.max_attempts).values(_dead(why, now)))
    return connection.execute(update(JOB).where(lost).values(_requeued(f"attempt lost: {why}"))).rowcount
