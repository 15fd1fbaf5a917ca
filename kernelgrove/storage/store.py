"""``SqliteStore``: the Store port over one SQLite file. Each public method is one transaction.

What happens inside a transaction is in ``searches``, ``jobs``, ``results``, ``ledger`` and ``snapshot``, as functions
of a connection; here are only its bounds: one writer at a time in a process, readers beside it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from ..errors import EmptyGrove, NotFound, StoreError
from ..model import Action, Device, EvaluationRequest, EvaluationView, Idea, JobKind, SearchStatus, StoppedBy, TreeView
from ..ports import (
    CodeResult,
    EvaluatedResult,
    Job,
    JobResult,
    PlannedJob,
    Proposal,
    ProposalRequest,
    SearchRecord,
    SearchSpec,
)
from . import migrate, queries, snapshot, spending, views
from .connect import Found, Location, locate, look, reading_engine, settle, transaction, translated, writing_engine
from .later import Later
from .spending import Settled, Spent

if TYPE_CHECKING:
    from . import evaluations, ledger, replays, results, searches, seeding
    from . import jobs as machine
else:
    # These import the tables, and with them SQLModel, which a command that only reads should not wait for.
    machine, evaluations, ledger, replays, results, searches, seeding = (
        Later(f"{__package__}.{name}")
        for name in ("jobs", "evaluations", "ledger", "replays", "results", "searches", "seeding")
    )

#: Searches whose last snapshot is kept, to make the next one from.
TREES_KEPT = 2

__all__ = ["Spent", "SqliteStore", "open_store"]


def open_store(url: str | os.PathLike[str], *, create: bool = False) -> SqliteStore:
    """Open the database at *url* (a path or ``sqlite:///path``), upgrading an older one.

    With *create*, a file that is missing or empty becomes a new database. Raises StoreError when it cannot be used:
    missing, not ours, newer than this program; without *create* also NotFound, or EmptyGrove for an empty one.
    """
    location = locate(url)
    found, version = look(location)
    shown = location.shown
    if found is not Found.OURS and not create:
        kind, what = (NotFound, "is not there") if found is Found.NOTHING else (EmptyGrove, "is empty")
        raise kind(f"{shown} {what}: no search was stored there.", "Start one with `kernelgrove run`, or give --db.")
    if version > migrate.SCHEMA:
        raise StoreError(
            f"{shown} was written by a newer KernelGrove (schema {version}, this one knows {migrate.SCHEMA}):",
            f"upgrade to one that knows schema {version}.",
        )
    store = SqliteStore(location, create=create)
    if version < migrate.SCHEMA:
        try:
            store.upgrade()
        except BaseException:
            store.close()
            raise
    return store


class SqliteStore:
    """See ``ports.Store`` for the contract. Thread-safe; open one with ``open_store``."""

    def __init__(self, location: Location, *, create: bool = False) -> None:
        self.location = location
        self._create = create
        self._lock = threading.RLock()
        self._reader: Engine | None = None
        self._writer: Engine | None = None
        self._writing: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._queued: set[str] = set()  # kinds of which this store has queued jobs since none was to be had
        self._trees: dict[int, snapshot.Snapshot] = {}
        self._settled: dict[int, Settled] = {}
        self._kept_lock = threading.Lock()  # of these two

    # transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything inside sees one state of the file."""
        with self._explained():
            if self._reader is None:
                with self._lock:
                    self._reader = self._reader or reading_engine(self.location)
            with self._reader.begin() as connection:
                yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A write transaction; nothing of it stays if the block raises.

        It is on the disk when the block has ended. One that is not *durable* is seen by every process then and outlives
        any of them; a power cut may take it back, but only together with all that came after it.
        """
        with self._lock, self._explained():
            connection = self._to_write()
            with transaction(connection, durable=durable):
                self._check_in_place()
                yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """``translated``; a file that is gone fails in many ways, of which it is the reason."""
        try:
            with translated(self.location.shown):
                yield
        except StoreError:
            if self._identity is not None:
                self._check_in_place()
            raise

    def _to_write(self) -> Connection:
        """The one connection that writes, with no transaction open. The lock must be held."""
        if self._writing is None:
            self._writer = self._open_writer()
            self._writing = self._writer.connect()
        return self._writing

    def _open_writer(self) -> Engine:
        path, shown = self.location.path, self.location.shown
        if path.exists():
            if not os.access(path, os.W_OK):
                raise StoreError(f"{shown} is read-only.", "Copy it somewhere writable, or make it writable.")
        elif not path.parent.is_dir():
            raise StoreError(f"{shown} cannot be made: there is no folder {path.parent}.", "Make it first.")
        if not os.access(path.parent, os.W_OK):
            raise StoreError(
                f"{shown} cannot be written: its folder is read-only.", "Copy it somewhere writable, or give --db."
            )
        return writing_engine(self.location, create=self._create)

    def _check_in_place(self) -> None:
        """SQLite would go on writing to a file that was deleted or replaced under it, for nobody to find."""
        try:
            stat = self.location.path.stat()
        except OSError as error:
            raise StoreError(
                f"{self.location.shown} was moved or deleted while in use.", "Put it back and resume."
            ) from error
        identity = (stat.st_dev, stat.st_ino)
        if self._identity is None:
            self._identity = identity
        elif identity != self._identity:
            raise StoreError(
                f"{self.location.shown} was replaced by another file while in use.",
                "Put the first one back and resume.",
            )

    def upgrade(self) -> None:
        """Bring the file to this program's schema, in one transaction."""
        with self.write() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version < migrate.SCHEMA:  # another process may have done it meanwhile
                migrate.upgrade(connection)

    def close(self) -> None:
        with self._lock:
            if self._writing is not None:
                settle(self._writing)
                self._writing.close()
            for engine in (self._reader, self._writer):
                if engine is not None:
                    engine.dispose()
            self._reader = self._writer = self._writing = None

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # searches

    def create_search(self, spec: SearchSpec, root: Idea) -> int:
        with self.write() as connection:
            return searches.create(connection, spec, root, time.time())

    def search(self, search: int) -> SearchRecord:
        with self.read() as connection:
            return searches.load(connection, search)

    def latest_search(self) -> int:
        with self.read() as connection:
            found = queries.latest(connection)
        if found is None:
            raise NotFound(f"{self.location.shown} holds no search.", "Start one with `kernelgrove run PROBLEM`.")
        return found

    def set_status(
        self, search: int, status: SearchStatus, stopped_by: StoppedBy | None = None, note: str = ""
    ) -> None:
        with self.write() as connection:
            searches.update_search(
                connection,
                search,
                status=str(status),
                stopped_by=None if stopped_by is None else str(stopped_by),
                note=note,
            )

    def take_search(self, seen: SearchRecord, owner: str) -> bool:
        with self.write() as connection:
            return searches.take(connection, seen, owner)

    def set_options(self, search: int, options: Mapping[str, Any]) -> None:
        with self.write() as connection:
            searches.update_search(connection, search, options=dict(options))

    def add_elapsed(self, search: int, seconds: float) -> None:
        with self.write(durable=False) as connection:
            searches.add_elapsed(connection, search, seconds)

    # the tree

    def tree(self, search: int) -> TreeView:
        with self._kept_lock, self.read() as connection:
            before = self._trees.pop(search, None)
            now = snapshot.take(connection, search) if before is None else before.next(connection)
            self._trees[search] = now  # the last one taken is last
            if len(self._trees) > TREES_KEPT:
                del self._trees[next(iter(self._trees))]
            return now.view

    def code(self, program: str) -> str:
        with self.read() as connection:
            return views.code(connection, program)

    # decisions and jobs

    def record(
        self, search: int, step: int, actions: Sequence[Action], jobs: Sequence[PlannedJob], note: str = ""
    ) -> tuple[int, ...]:
        # A power cut that takes a decision back takes all that came of it: it is made again.
        with self.write(durable=False) as connection:
            ids = machine.record(connection, search, step, actions, jobs, note, time.time())
        self._queued.update(str(job.kind) for job in jobs)
        return ids

    def claim(self, search: int | None, owner: str, kinds: Iterable[JobKind], lease_s: float) -> Job | None:
        wanted = tuple(str(kind) for kind in kinds)
        with self._lock:
            if not self._queued.intersection(wanted):  # who polls takes no write lock on the file
                with self._explained():
                    if not machine.anything_to_claim(self._to_write(), search, owner, wanted, time.time()):
                        return None
            with self.write(durable=False) as connection:  # a lease that a power cut takes back is a job still queued
                now = time.time()
                job = machine.claim(connection, search, owner, wanted, now, now + lease_s)
            self._queued.difference_update(wanted if job is None else ())
            return job

    def renew(self, job: Job, lease_s: float) -> bool:
        with self.write(durable=False) as connection:
            return machine.renew(connection, job, time.time() + lease_s)

    def finish(self, job: Job, result: JobResult) -> bool:
        prepared = results.prepare(result)  # parsing source is no work for a write lock
        with self.write() as connection:
            done = results.finish(connection, job, prepared, time.time())
        if isinstance(result, CodeResult):
            self._queued.add(JobKind.EVALUATE)
        return done

    def fail(self, job: Job, reason: str, retry: bool) -> bool:
        with self.write() as connection:
            return machine.fail(connection, job, reason, retry, time.time())

    def give_back(self, job: Job) -> bool:
        with self.write() as connection:
            return machine.give_back(connection, job)

    def claim_job(self, job: int, owner: str, lease_s: float) -> Job | None:
        """Lease this very job if it is queued, its lease is over, or *owner* holds it already."""
        with self.write() as connection:
            now = time.time()
            return machine.claim_one(connection, job, owner, now, now + lease_s)

    def release(self, owner: str) -> int:
        with self.write() as connection:
            return machine.release(connection, owner)

    def recover(self, search: int, alive: Callable[[str], bool]) -> int:
        with self.read() as connection:
            owners = machine.owners(connection, search)
        gone = [owner for owner in owners if not alive(owner)]  # outside of any transaction: it may look at processes
        with self.write() as connection:
            now = time.time()
            requeued = machine.recover(connection, search, gone, now)
            ledger.settle_orphans(connection, search, gone, now)
            return requeued

    # the ledger

    def plan_completion(
        self, job: Job, model: str, request: ProposalRequest, reserve_usd: float = 0.0, reserve_tokens: int = 0
    ) -> int:
        with self.write(durable=False) as connection:  # ``mark_sent`` is flushed before the call, and this with it
            return ledger.plan(connection, job, model, request, reserve_usd, reserve_tokens, time.time())

    def mark_sent(self, completion: int) -> None:
        with self.write() as connection:
            ledger.mark_sent(connection, completion, time.time())

    def settle_completion(
        self, completion: int, ok: bool, proposal: Proposal | None, error: str | None = None, *, unknown: bool = False
    ) -> None:
        with self.write() as connection:
            ledger.settle(connection, completion, ok, proposal, error, time.time(), unknown=unknown)

    def spent(self, search: int) -> Spent:
        """What *search*'s proposer calls cost, and what those in flight may still cost."""
        with self._kept_lock, self.read() as connection:
            now, self._settled[search] = spending.spent(connection, search, self._settled.get(search))
            return now

    def spent_by_model(self, search: int) -> dict[str, tuple[int, int, float]]:
        with self.read() as connection:
            return spending.spent_by_model(connection, search)

    # what is known

    def profile(self, evaluation: int) -> Mapping[str, Any]:
        with self.read() as connection:
            return views.profile(connection, evaluation)

    def known_evaluation(self, search: int, program: str) -> EvaluationView | None:
        with self.read() as connection:
            return evaluations.known_evaluation(connection, search, program)

    # replays

    def add_evaluation(
        self, implementation: int, request: EvaluationRequest, protocol: int, ended: EvaluatedResult
    ) -> int:
        """Keep an evaluation that no job asked for and return its id. The implementation's own evaluation stays what
        it was. Raises NotFound, and StoreError for a request of another problem."""
        with self.write() as connection:
            return replays.add(connection, implementation, request, protocol, ended, time.time())

    def survivors(
        self, search: int, request: EvaluationRequest, protocol: int, device: Device
    ) -> Sequence[seeding.Survivor]:
        """What of *search* passed its newest replay on *device* by the rules of *request*. Raises NotFound."""
        view = self.tree(search)
        with self.read() as connection:
            return seeding.survivors(connection, view, request, protocol, device)

    def create_from_survivors(self, spec: SearchSpec, root: Idea, seeds: Sequence[seeding.Survivor]) -> int:
        """As ``create_search``, with *seeds* in the tree of the new search."""
        with self.write() as connection:
            return seeding.create(connection, spec, root, seeds, time.time())

    def replayed_evaluation(
        self, implementation: int, request: EvaluationRequest, protocol: int, device: Device
    ) -> int | None:
        """The evaluation that an earlier replay added under the same key here, if its outcome would come again."""
        with self.read() as connection:
            return replays.find(connection, implementation, request, protocol, device)
