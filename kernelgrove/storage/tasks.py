"""Proposer jobs that wait for an answer from outside, as ``kernelgrove tasks`` lists them. Only reads.

A task is leased by a name that is no process: ``task/NAME``. It stays leased when the command that took it has ended,
until its lease is over, it is answered, or it is given back; no controller takes it back before that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ..errors import NotFound, UsageError
from ..model import PROPOSER_KINDS, JobKind, JobState
from ..ports import Job
from .ids import parse_as, show
from .queries import decode, rows
from .store import SqliteStore

#: The model of a search whose proposer jobs wait for an answer from outside.
QUEUE = "queue"

#: How the owner of a lease that a person or an agent holds begins.
PREFIX = "task/"


def owner(name: str) -> str:
    """The owner of leases that *name* holds. No colon: what parses as a process would be looked for among them."""
    return PREFIX + "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


@dataclass(frozen=True)
class Task:
    """A proposer job that is not over. *holder* is who has it now, None where nobody has."""

    job: Job
    state: JobState
    holder: str | None
    lease_until: float | None
    problem: str
    target: str
    idea: str | None
    reason: str | None
    queued_for_us: bool  # its search asks no model: it was started with --model queue

    @property
    def id(self) -> str:
        return show("t", self.job.id)

    @property
    def outside(self) -> bool:
        """Whether it is open, or held by a name rather than by a running search."""
        return self.holder is None or self.holder.startswith(PREFIX)


_KINDS = ", ".join(f"'{kind}'" for kind in PROPOSER_KINDS)
_TASKS = f"""
SELECT j.id, j.search_id, j.kind, j.key, j.payload, j.node_id, j.implementation_id, j.owner, j.attempt, j.state,
       j.lease_until, j.reason, p.name AS problem, s.target, s.models, s.options, n.idea, n.parent_id
FROM job j JOIN search s ON s.id = j.search_id JOIN problem p ON p.id = s.problem_id
     LEFT JOIN node n ON n.id = j.node_id
WHERE j.kind IN ({_KINDS})
"""


def open_tasks(store: SqliteStore, search: int | None = None) -> list[Task]:
    """Tasks that are queued or held, oldest first: those of one search, or of all that were left to ``queue``."""
    of = "" if search is None else " AND j.search_id = :search"
    with store.read() as connection:
        found = rows(
            connection,
            f"{_TASKS} AND j.state IN ('queued', 'leased'){of} ORDER BY j.id",
            **({} if search is None else {"search": search}),
        )
    made = [_task(row) for row in found]
    return made if search is not None else [one for one in made if one.queued_for_us]


def task(store: SqliteStore, text: str) -> Task:
    """The task that *text* (``t7``) names. Raises NotFound, UsageError for one that is over or is no proposer's job."""
    number = parse_as("t", text)
    with store.read() as connection:
        found = rows(connection, f"{_TASKS} AND j.id = :id", id=number)
        kind = rows(connection, "SELECT kind FROM job WHERE id = :id", id=number)
    if not found:
        if kind:
            raise UsageError(f"{text} is an evaluation, not a task.", "`kernelgrove drain` runs it.")
        raise NotFound(f"There is no task {text} in {store.location.shown}.", "See `kernelgrove tasks ls`.")
    made = _task(found[0])
    if made.state not in (JobState.QUEUED, JobState.LEASED):
        why = f": {made.reason}" if made.reason else ""
        raise UsageError(f"{text} is over ({made.state}{why}).", "See `kernelgrove tasks ls` for those that are open.")
    return made


def _task(row: Any) -> Task:
    held = row.state == str(JobState.LEASED) and (row.lease_until or 0.0) > time.time()
    return Task(
        job=Job(
            row.id,
            row.search_id,
            JobKind(row.kind),
            row.key,
            decode(row.payload),
            row.node_id,
            row.implementation_id,
            row.owner or "",
            row.attempt,
        ),
        state=JobState(row.state) if held or row.state != str(JobState.LEASED) else JobState.QUEUED,
        holder=row.owner if held else None,
        lease_until=row.lease_until if held else None,
        problem=row.problem,
        target=row.target,
        idea=None if row.parent_id is None else row.idea,
        reason=row.reason,
        queued_for_us=QUEUE in (decode(row.options).get("models") or decode(row.models)),
    )
