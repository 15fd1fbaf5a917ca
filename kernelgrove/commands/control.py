"""``retry`` and ``pause``: telling a search something from another terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..model import SearchStatus
from . import options

if TYPE_CHECKING:
    from ..engine.jobs import Owner
    from ..storage import SqliteStore

_Search = Annotated[str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")]

#: Seconds between looks at whether a search has stopped.
_LOOK_S = 0.2


def retry(search: _Search = None, db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Queue again the jobs of a search that failed or were given up.

    Shows why each was. `kernelgrove resume` then runs them.
    """
    from ..storage import documents, open_store
    from ..storage.care import control

    with options.output(json) as out, open_store(db) as store:
        number = documents.find_search(store, search)
        jobs = control.retry(store, number)
        if json:
            out.emit(
                [
                    {
                        "job": f"t{job.id}",
                        "kind": job.kind,
                        "key": job.key,
                        "attempts": job.attempts,
                        "was": job.state,
                        "reason": job.reason,
                    }
                    for job in jobs
                ]
            )
            return
        if not jobs:
            print(f"s{number}: no job has failed")
            return
        from ..render import put, table

        shown = [(f"t{job.id}", job.kind, job.key, job.state, job.attempts, job.reason) for job in jobs]
        put(table(("job", "kind", "key", "was", "attempts", "because"), shown, right=("attempts",)))
        print(f"s{number}: {len(jobs)} queued again; `kernelgrove resume s{number}` runs them")


def pause(
    search: _Search = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has stopped.")] = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Ask a search that runs in another process to stop in order.

    It starts nothing new, finishes what runs, and is paused: `kernelgrove resume` goes on with it.
    """
    from ..engine.jobs import Owner
    from ..storage import documents, open_store
    from ..storage.care import control

    with options.output(json) as out, open_store(db) as store:
        number = documents.find_search(store, search)
        record = store.search(number)
        if record.status is not SearchStatus.RUNNING:
            raise UsageError(f"s{number} is not running: it is {record.status}.", "See `kernelgrove ls`.")
        owner = Owner.parse(record.note)
        if owner is None or owner.alive() is False:
            raise UsageError(
                f"s{number} is not running: the process that ran it is gone.",
                f"Go on with `kernelgrove resume s{number}`.",
            )
        control.ask_to_pause(store, number, record.note)
        by = f"process {owner.pid} on {owner.host}"
        if not json:
            print(f"s{number}: {by} was asked to finish what runs and stop", flush=True)
        status = _ended(store, number, owner) if wait else store.search(number).status
        if json:
            out.emit({"search": f"s{number}", "asked": by, "status": str(status)})
        elif wait:
            print(f"s{number} is {status}")


def _ended(store: SqliteStore, search: int, owner: Owner) -> SearchStatus:
    """The status of *search* once *owner* has stopped running it, or is gone."""
    while True:
        gone = owner.alive() is False  # looked at first: what it stored before it ended is then seen
        status = store.search(search).status
        if gone or status is not SearchStatus.RUNNING:
            return status
        time.sleep(_LOOK_S)
