"""Evaluations that wait in a store, run here until none is left: on a machine with a GPU and, perhaps, no network.

Jobs are leased as a controller would lease them, so several may drain at once beside a running search, and what is
left behind by a crash is taken up again. Only searches on this very device are touched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import Conflict, EnvironmentLacks, EvaluatorError
from ..model import EvaluationResult, JobKind, JobState
from ..ports import EvaluatedResult, Evaluator, Job
from ..storage import SqliteStore
from ..strategies.allocation import time_to_beat
from .calls import describe
from .evaluations import evaluation_request
from .jobs import Ended, Owner, Runner

#: Evaluators that die this often in a row end a drain: it is not the candidates.
FAILURES = 3


@dataclass(frozen=True)
class Drained:
    """One evaluation that is over. *result* is None where the evaluator failed (*error* says how), or was too late."""

    job: Job
    result: EvaluationResult | None
    error: str | None = None


class Drain:
    """Runs the queued evaluations of *searches*, which must all be on the evaluator's device (see ``fitting``)."""

    def __init__(
        self,
        store: SqliteStore,
        evaluator: Evaluator,
        searches: Sequence[int],
        tell: Callable[[Drained], None] = lambda drained: None,
        lease_s: float = 60.0,
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._searches = list(searches)
        self._specs = {search: store.search(search).spec for search in searches}
        self._tell = tell
        self._lease_s = lease_s
        self._owner = Owner.here("drain")
        self._runner = Runner(time.monotonic)
        self._running: dict[int, Job] = {}
        self._stop = threading.Event()
        self._failed_in_a_row = 0

    def stop_softly(self) -> None:
        """Start nothing new; safe in a signal handler."""
        self._stop.set()
        self._runner.wake()

    def stop_now(self) -> None:
        self.stop_softly()
        self._running.clear()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def run(self) -> int:
        """Run until nothing is queued; how many evaluations were committed.

        Raises EvaluatorError or EnvironmentLacks when no evaluation can be had; what was leased is given back.
        """
        done = 0
        device = self._evaluator.device()
        with self._owner.at_work():
            for search in self._searches:
                self._store.recover(search, _alive)
            try:
                while True:
                    self._claim()
                    if not self._running:
                        return done
                    for ended in self._runner.wait(min(5.0, self._lease_s / 3)):
                        if ended.job.id in self._running:
                            done += self._commit(ended, device)
                    for job in list(self._running.values()):
                        self._store.renew(job, self._lease_s)
            finally:
                self._store.release(str(self._owner))

    def _claim(self) -> None:
        while not self._stop.is_set() and len(self._running) < self._evaluator.parallel:
            job = self._next()
            if job is None:
                return
            self._running[job.id] = job
            self._runner.start(job, self._work(job))

    def _next(self) -> Job | None:
        for search in self._searches:
            job = self._store.claim(search, str(self._owner), (JobKind.EVALUATE,), self._lease_s)
            if job is not None:
                return job
        return None

    def _work(self, job: Job) -> Callable[[], object]:
        def work() -> EvaluationResult:
            view = self._store.tree(job.search)
            program = job.payload.get("program") or view.implementations[job.implementation or 0].program
            # A program measured again is the leader or as good: nothing it could fail to beat.
            best = None if job.payload.get("again") else time_to_beat(view)
            return self._evaluator.evaluate(
                evaluation_request(self._specs[job.search], self._store.code(program), best)
            )

        return work

    def _commit(self, ended: Ended, device: object) -> int:
        job = self._running.pop(ended.job.id)
        if ended.error is not None:
            self._store.fail(job, describe(ended.error), retry=True)
            self._tell(Drained(job, None, describe(ended.error)))
            self._failed_in_a_row += 1
            if isinstance(ended.error, EnvironmentLacks):
                raise ended.error
            if self._failed_in_a_row >= FAILURES:
                raise EvaluatorError(
                    f"The evaluator failed {self._failed_in_a_row} times in a row, last with: {describe(ended.error)}",
                    "See what `kernelgrove doctor` says, then drain again.",
                ) from ended.error
            return 0
        self._failed_in_a_row = 0
        assert isinstance(ended.value, EvaluationResult)
        result = EvaluatedResult(ended.value, device)  # type: ignore[arg-type]
        if not self._store.finish(job, result):
            self._tell(Drained(job, None, "it came after its lease was lost, and is dropped"))
            return 0
        self._tell(Drained(job, ended.value))
        return 1


def _alive(text: str) -> bool:
    owner = Owner.parse(text)
    return owner is None or owner.alive() is not False


def waiting(store: SqliteStore, search: int) -> int:
    """How many evaluations of *search* are queued or leased."""
    return len(store.tree(search).in_flight(JobKind.EVALUATE))


def queued(store: SqliteStore, search: int) -> int:
    """How many are queued."""
    return sum(job.state is JobState.QUEUED for job in store.tree(search).in_flight(JobKind.EVALUATE))


def fitting(store: SqliteStore, searches: Sequence[int], evaluator: Evaluator) -> list[int]:
    """Those of *searches* that are on the evaluator's device, target and protocol; the others are left alone.

    Raises Conflict where one of them was prepared under another version of the measuring protocol.
    """
    device = evaluator.device()
    found: list[int] = []
    for search in searches:
        spec = store.search(search).spec
        there = spec.device
        if (there.gpu, there.basis) != (device.gpu, device.basis):
            continue
        if there.key != device.key and there.software:  # without software: started where the device is not
            continue
        if spec.protocol != evaluator.protocol:
            raise Conflict(
                f"s{search} measures by protocol {spec.protocol}, and this program by {evaluator.protocol}:",
                "their times are not comparable. Run both with the same version.",
            )
        found.append(search)
    return found
