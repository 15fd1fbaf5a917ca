"""``retry`` and ``pause``: what a person at another terminal may tell a search, through the store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from ...errors import StoreError
from ..ids import show
from ..queries import must_exist, rows
from ..store import SqliteStore

#: Attempts that a job gets when it is queued again.
MORE_ATTEMPTS = 3


@dataclass(frozen=True)
class Retried:
    """A job that is queued again: its id, kind and key, the attempts it had, and why it was given up."""

    id: int
    kind: str
    key: str
    attempts: int
    state: str
    reason: str | None


# A job that was refused because another had implemented the same place would be refused again.
_GIVEN_UP = """
SELECT id, kind, key, attempt, state, reason FROM job
WHERE search_id = :search AND state IN ('failed', 'dead')
AND coalesce(reason, '') NOT LIKE '%was implemented by another job already' ORDER BY id
"""
# The attempt counts on: a result that a former holder still sends stays fenced off.
_QUEUE = """
UPDATE job SET state = 'queued', attempt = attempt + 1, max_attempts = attempt + :more,
       owner = NULL, lease_until = NULL, finished_at = NULL
WHERE search_id = :search AND id = :id
"""
# A finished search with jobs to do is one to go on with.
_REOPEN = """
UPDATE search SET status = 'paused', stopped_by = 'user', note = 'jobs were queued again'
WHERE id = :search AND status IN ('finished', 'failed')
"""


def retry(store: SqliteStore, search: int) -> list[Retried]:
    """Queue again every job of *search* that failed or was given up, with attempts left; the reasons stay with them.
    A search that was over is paused then, so that ``resume`` goes on with it. Raises NotFound."""
    with store.write() as connection:
        must_exist(connection, search)
        found = [Retried(*row) for row in rows(connection, _GIVEN_UP, search=search)]
        for job in found:
            connection.execute(text(_QUEUE), {"search": search, "id": job.id, "more": MORE_ATTEMPTS})
        if found:
            connection.execute(text(_REOPEN), {"search": search})
    return found


# A search that runs was stopped by nobody yet, so the column can carry the wish; a controller that starts clears it.
_ASK = "UPDATE search SET stopped_by = 'user' WHERE id = :search AND status = 'running' AND note = :owner"


def ask_to_pause(store: SqliteStore, search: int, owner: str) -> None:
    """Ask the controller *owner* (the note of a running search) to finish what runs and stop. It looks every few
    seconds. Raises StoreError when it does not run *search* any more."""
    with store.write() as connection:
        if connection.execute(text(_ASK), {"search": search, "owner": owner}).rowcount == 0:
            raise StoreError(f"{show('s', search)} has stopped meanwhile.", "See `kernelgrove ls`.")
