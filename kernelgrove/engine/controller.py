"""The loop: snapshot, decide, record, run, commit. All state is in the store; this object can die at any instant.

A controller owns its leases by host, process and start time. What it decides is recorded before anything runs; what
comes back is committed in one transaction each, fenced by (owner, attempt). So after ``kill -9`` another controller
takes the leases back at once (the process is gone) and goes on: a job that was running runs again, nothing that was
committed is lost, and nothing is committed twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ..errors import (
    Conflict,
    EnvironmentLacks,
    EvaluatorError,
    KernelGroveError,
    NotFound,
    ProposerError,
    ProposerUnusable,
    StoreError,
)
from ..model import (
    PROPOSER_KINDS,
    EvaluationResult,
    JobKind,
    JobState,
    SearchStatus,
    Stop,
    StoppedBy,
    TreeView,
)
from ..ports import EvaluatedResult, Evaluator, Job, JobResult, Proposer, SearchRecord, Strategy
from ..strategies.allocation import time_to_beat
from .budget import Budget, Ledger, Spent, evaluations_pending, evaluations_since_best, evaluations_used
from .calls import Answer, Policy, ask, assign, describe, result_of
from .changes import Teller, changes, finished, idea_of
from .choice import Panel, spending
from .deciding import Decider
from .evaluations import evaluation_request
from .events import (
    BudgetTick,
    Event,
    JobStarted,
    Note,
    SearchStarted,
    Stopped,
    Stopping,
)
from .jobs import MAX_ATTEMPTS, Ended, Owner, Runner
from .planning import capacity
from .proposers.failures import TRANSIENT, CallFailed, Failure
from .proposers.limits import Halted
from .purse import OverBudget, Purse

_log = logging.getLogger(__name__)

#: Evaluators that die this often in a row end the search: it is not the candidates.
EVALUATOR_FAILURES = 3

#: Jobs in a row that no proposer could be reached for end the search: later may be better.
PROPOSER_FAILURES = 3

#: Kinds of failure that say that the provider, not the request, is the matter.
_PROVIDERS_FAULT = TRANSIENT | {Failure.BAD_REQUEST}

#: Kinds that say that the provider has too much to do.
_BUSY = frozenset({Failure.RATE_LIMIT, Failure.OVERLOADED})

#: Caps that end new calls, and leave what was paid for to be evaluated.
_OF_MONEY = (StoppedBy.DOLLARS, StoppedBy.TOKENS)

#: Seconds between writes of the time that was used, and between ticks: at most so much is forgotten by a crash.
TICK_S = 5.0

#: Seconds between looks at work that another process has leased.
POLL_S = 0.5

#: Seconds, at the least, between looks at whether another process asked for a pause (`kernelgrove pause`).
PAUSE_S = 1.0


class Controller:
    """Runs one search until a budget, the strategy or the user ends it.

    *proposers* may be empty and *evaluator* None: those jobs are then left queued for other processes, and the search
    stops with ``waiting`` when nothing else is left to do, or with *patient* waits for them. *parallel* proposer calls
    and ``evaluator.parallel`` evaluations run at once. *events* is called from the thread of ``run``.
    """

    def __init__(
        self,
        store: Ledger,
        search_id: int,
        strategy: Strategy,
        proposers: Panel | Sequence[Proposer],
        evaluator: Evaluator | None,
        budget: Budget,
        events: Callable[[Event], None] = lambda event: None,
        *,
        patient: bool = False,
        policy: Policy = Policy(),  # noqa: B008 (frozen)
        parallel: int = 4,
        lease_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.search_id = search_id
        self._store = store
        self._decider = Decider(store, strategy)
        self._proposers = Panel.of(proposers)
        self._evaluator = evaluator
        self._budget = budget
        self._purse = Purse(store, search_id, budget)
        self._policy = policy
        self._patient = patient
        self._halt = threading.Event()
        self._over: OverBudget | None = None
        self._asked: dict[int, str] = {}
        self._proposer_failures = 0
        self._tell = Teller(events)
        self._parallel = max(1, parallel)
        self._lease_s = lease_s
        self._clock = clock
        self._owner = Owner.here()
        self._runner = Runner(clock)
        self._running: dict[int, Job] = {}
        self._seen: TreeView | None = None
        self._soft = self._now = False
        self._told_stopping = False
        self._stop: Stop | None = None
        self._fatal: KernelGroveError | None = None
        self._evaluator_failures = 0
        self._elapsed_before = 0.0
        self._begun = self._saved = self._renewed = self._looked = clock()

    # ------------------------------------------------------------------------------------------ from outside

    def stop_softly(self) -> None:
        """Start nothing new and finish what runs; safe in a signal handler and from any thread."""
        self._soft = True
        self._runner.wake()

    def stop_now(self) -> None:
        """Abandon what runs; its jobs go back to the queue, uncharged. Safe as above."""
        self._soft = self._now = True
        self._runner.wake()

    def run(self) -> StoppedBy:
        """Run to the end and say what ended it; the status in the store says so too.

        Raises Conflict while another controller runs this search (it is left alone), EvaluatorError or
        EnvironmentLacks when no evaluation can be had, StrategyFailed for a strategy that broke its contract, and
        StoreError; what was committed stays, and the search can be resumed.
        """
        record = self._store.search(self.search_id)
        self._spec = record.spec
        self._elapsed_before = record.elapsed_s
        self._begun = self._saved = self._renewed = self._looked = self._clock()
        with self._owner.at_work():
            recovered = self._take_over(record)
            try:
                if self._evaluator is not None:
                    self._device = self._evaluator.device()
                self._tell(SearchStarted(self.search_id, self._store.tree(self.search_id).step > 0, recovered))
                by, because = self._loop()
            except BaseException as error:
                self._give_up(error)
                raise
            self._save_elapsed(final=True)
            self._store.release(str(self._owner))
            paused = by in (StoppedBy.USER, StoppedBy.WAITING)
            self._store.set_status(
                self.search_id, SearchStatus.PAUSED if paused else SearchStatus.FINISHED, by, because
            )
        self._tell(Stopped(by, because, self._spent(self._seen or self._store.tree(self.search_id))))
        return by

    # ------------------------------------------------------------------------------------------ start and end

    def _take_over(self, seen: SearchRecord) -> int:
        """Make the search ours, and take back what dead controllers hold. Raises Conflict where one is alive, or was
        quicker: then nothing has changed."""
        rivals: list[Owner] = []

        def alive(text: str) -> bool:
            owner = Owner.parse(text)
            if owner is None:
                return True  # not ours to judge: its lease will end
            known = owner.alive()
            if known and owner.controls and owner != self._owner:
                rivals.append(owner)
            return known is not False

        if seen.status is SearchStatus.RUNNING:
            alive(seen.note)
        if not rivals and not self._store.take_search(seen, str(self._owner)):
            alive(self._store.search(self.search_id).note)
            if not rivals:
                raise Conflict(f"Search s{self.search_id} was taken by another process.", "See `kernelgrove ls`.")
        recovered = 0 if rivals else self._store.recover(self.search_id, alive)
        if rivals:
            if self._store.search(self.search_id).note == str(self._owner):
                self._store.set_status(self.search_id, seen.status, seen.stopped_by, seen.note)
            raise Conflict(
                f"Search s{self.search_id} is being run by process {rivals[0].pid} on this machine.",
                "Wait for it, or stop it with Ctrl-C; then resume.",
            )
        return recovered

    def _give_up(self, error: BaseException) -> None:
        """Leave the store in order after *error*: leases given back, the status true. A rival's search is its own."""
        try:
            self._store.release(str(self._owner))
            if isinstance(error, Conflict):
                return
            self._save_elapsed(final=True)
            if isinstance(error, Exception):
                self._store.set_status(self.search_id, SearchStatus.FAILED, None, describe(error))
            else:  # KeyboardInterrupt without our handlers, SystemExit
                self._store.set_status(self.search_id, SearchStatus.PAUSED, StoppedBy.USER)
        except Exception:
            # The store may be what failed. The first error is the one to show; recovery does the rest on resume.
            _log.exception("search s%d could not be closed in order", self.search_id)

    # ------------------------------------------------------------------------------------------ the loop

    def _loop(self) -> tuple[StoppedBy, str]:
        while True:
            view = self._snapshot()
            if self._now:
                return StoppedBy.USER, "stopped by the user; what ran is queued again"
            spent = self._spent(view)
            self._tell(BudgetTick(self._budget, spent))
            used_up = self._budget.exhausted(spent) or (self._over.by if self._over is not None else None)
            planned = 0
            if not self._closing(used_up):
                planned = self._decide(view, spent)
            if not self._closing(used_up):
                self._start_jobs(view, spent, planned)
            elif used_up in _OF_MONEY and not self._closing(None):
                self._start_evaluations(view, spent)
            if self._soft or used_up is not None or self._fatal is not None:
                self._halt.set()  # calls that wait for another try are given back
            if self._soft and self._running and not self._told_stopping:
                self._told_stopping = True
                self._tell(Stopping(len(self._running)))
            if not self._running:
                ended = self._why_idle(view, used_up, planned)
                if ended is not None:
                    return ended
            for ended_job in self._runner.wait(self._wait_s(spent, planned)):
                self._commit(ended_job)
            self._renew()
            self._heed_pause()
            self._save_elapsed()

    def _closing(self, used_up: StoppedBy | None) -> bool:
        """Whether nothing new may start."""
        return self._soft or used_up is not None or self._stop is not None or self._fatal is not None

    def _why_idle(self, view: TreeView, used_up: StoppedBy | None, planned: int) -> tuple[StoppedBy, str] | None:
        """Why the search ends, with nothing of ours running; None where there is something to wait for."""
        if self._fatal is not None:
            raise self._fatal
        if self._soft:
            return StoppedBy.USER, "stopped by the user"
        if self._stop is not None:
            return StoppedBy.STRATEGY, self._stop.because
        if used_up is not None:
            why = f": {self._over}" if self._over is not None and self._over.by is used_up else ""
            return used_up, f"the budget of {used_up.value} is used up{why}"
        waiting = view.in_flight()
        served = (PROPOSER_KINDS if self._proposers else ()) + ((JobKind.EVALUATE,) if self._evaluator else ())
        if planned or any(job.kind in served for job in waiting):
            return None  # queued, or leased by another process whose lease may run out
        if waiting and self._patient:
            return None
        if waiting:
            kinds = ", ".join(sorted({job.kind.value for job in waiting}))
            jobs = "1 job waits" if len(waiting) == 1 else f"{len(waiting)} jobs wait"
            return StoppedBy.WAITING, f"{jobs} for others ({kinds})"
        return StoppedBy.STRATEGY, "the strategy asks for nothing more"

    def _wait_s(self, spent: Spent, planned: int) -> float:
        """Seconds to wait for a job to end before leases, time and budgets are looked at again."""
        if not self._running:
            return 0.0 if planned else POLL_S
        wait = min(TICK_S, self._lease_s / 3)
        if self._budget.seconds is not None and self._budget.seconds > spent.seconds:
            wait = min(wait, self._budget.seconds - spent.seconds)
        return max(0.01, wait)

    def _snapshot(self) -> TreeView:
        view = self._store.tree(self.search_id)
        for event in changes(self._seen, view):
            self._tell(event)
        self._seen = view
        return view

    # ------------------------------------------------------------------------------------------ deciding

    def _decide(self, view: TreeView, spent: Spent) -> int:
        """Ask the strategy and record what it decides; how many jobs were planned."""
        judging = self._evaluator.parallel if self._evaluator else self._parallel
        slots = self._budget.slots_left(spent, capacity(view, self._parallel, judging))
        if slots == 0:
            return 0
        actions, jobs = self._decider.decide(view, slots)
        if not actions:
            return 0
        self._stop = next((a for a in actions if isinstance(a, Stop)), None)
        self._store.record(self.search_id, view.step, actions, jobs, self._stop.because if self._stop else "")
        return len(jobs)

    # ------------------------------------------------------------------------------------------ running

    def _start_jobs(self, view: TreeView, spent: Spent, planned: int) -> None:
        """Claim and start what threads are free for. Looks at the store only where the view shows something."""
        idle = not self._running
        running = [job.kind for job in self._running.values()]
        evaluating = running.count(JobKind.EVALUATE)
        queued = [job.kind for job in view.jobs if job.state is JobState.QUEUED]
        if self._proposers and (planned or idle or any(kind in PROPOSER_KINDS for kind in queued)):
            free = self._parallel - (len(running) - evaluating)
            self._claim(PROPOSER_KINDS, free, view)
        self._start_evaluations(view, spent)

    def _start_evaluations(self, view: TreeView, spent: Spent) -> None:
        if self._evaluator is None:
            return
        evaluating = [job.kind for job in self._running.values()].count(JobKind.EVALUATE)
        if self._running and not any(j.kind is JobKind.EVALUATE and j.state is JobState.QUEUED for j in view.jobs):
            return
        free = self._evaluator.parallel - evaluating
        if self._budget.evaluations is not None:  # of a budget lowered on resume, less may be left than is queued
            free = min(free, self._budget.evaluations - spent.evaluations - evaluating)
        self._claim((JobKind.EVALUATE,), free, view)

    def _claim(self, kinds: Sequence[JobKind], free: int, view: TreeView) -> None:
        for _ in range(free):
            job = self._store.claim(self.search_id, str(self._owner), kinds, self._lease_s)
            if job is None:
                return
            self._start(job, view)

    def _start(self, job: Job, view: TreeView) -> None:
        self._running[job.id] = job
        if job.kind is JobKind.EVALUATE:
            self._tell(JobStarted(job.id, job.kind, job.key, idea_of(view, job) or "", job.attempt))
            # A program measured again is the leader or as good: nothing it could fail to beat.
            best = None if job.payload.get("again") else time_to_beat(view)
            self._runner.start(job, lambda: self._evaluate(job, best))
        else:
            spent = spending(self._store.spent_by_model(self.search_id)) if self._proposers.learns else {}
            proposer = assign(self._proposers, job, view, spent, Counter(self._asked.values()))
            self._asked[job.id] = proposer.name
            what = ": ".join(filter(None, (proposer.name, idea_of(view, job))))
            self._tell(JobStarted(job.id, job.kind, job.key, what, job.attempt))
            more = (self._purse, self._policy, self._halt)
            self._runner.start(job, lambda: ask(self._store, self._spec, job, view, proposer, *more))

    def _evaluate(self, job: Job, best_ms: float | None) -> EvaluationResult:
        """In a thread of its own: judge the program of *job*, whose time is to beat *best_ms*."""
        assert self._evaluator is not None
        program = job.payload.get("program")
        if program is None:
            view = self._store.tree(self.search_id)
            program = view.implementations[job.implementation or 0].program
        return self._evaluator.evaluate(evaluation_request(self._spec, self._store.code(program), best_ms))

    def _renew(self) -> None:
        if self._clock() - self._renewed < self._lease_s / 3:
            return
        self._renewed = self._clock()
        for job in list(self._running.values()):
            if not self._store.renew(job, self._lease_s):
                # Its result will be refused by the fence; whoever holds the job now answers for it.
                self._tell(Note("controller", f"the lease of {job.key} was lost"))

    def _heed_pause(self) -> None:
        """Stop softly where another process asked for it: a search that runs and is stopped by its user."""
        now = self._clock()
        if self._soft or now - self._looked < PAUSE_S:
            return
        self._looked = now
        if self._store.search(self.search_id).stopped_by is StoppedBy.USER:
            self.stop_softly()

    # ------------------------------------------------------------------------------------------ results

    def _commit(self, ended: Ended) -> None:
        """Commit how a job ended, and tell of it."""
        job = ended.job
        self._running.pop(job.id, None)
        self._asked.pop(job.id, None)
        error, result = ended.error, None
        if isinstance(error, OverBudget | Halted | ProposerUnusable):
            self._not_asked(ended, error)
            return
        if isinstance(error, StoreError) and not isinstance(error, (Conflict, NotFound)):
            raise error  # a full disk is not the job's fault: the search ends, and the job is queued again
        if error is None:
            try:
                result = self._result(job, ended.value)
            except ProposerError as refused:
                error = refused
        if result is None:
            self._failed(ended, error or RuntimeError("no result"))
            return
        if job.kind is JobKind.EVALUATE:
            self._evaluator_failures = 0
        else:
            self._proposer_failures = 0
        if not self._store.finish(job, result):
            self._tell(Note("controller", f"the result of {job.key} came after its lease was lost, and is dropped"))
            return
        self._tell(finished(ended, result, self._seen))
        note = getattr(result, "note", "")
        if note:
            self._tell(Note(getattr(result, "model", ""), note))

    def _result(self, job: Job, value: object) -> JobResult:
        if isinstance(value, EvaluationResult):
            return EvaluatedResult(value, self._device)
        assert isinstance(value, Answer)
        return result_of(job, value, self._store.tree(self.search_id))

    def _failed(self, ended: Ended, error: BaseException) -> None:
        job = ended.job
        judged = job.kind is JobKind.EVALUATE
        retry = judged or (isinstance(error, ProposerError) and error.retry)
        reason = describe(error)
        if isinstance(error, CallFailed) and error.kind in _BUSY:
            self._store.give_back(job)  # its tries are used up, and none of them was the job's fault
        else:
            self._store.fail(job, reason, retry)
        if not isinstance(error, KernelGroveError):
            _log.warning("%s failed", job.key, exc_info=error)
        again = retry and (job.attempt < MAX_ATTEMPTS or (isinstance(error, CallFailed) and error.kind in _BUSY))
        self._tell(finished(ended, None, self._seen, error=reason, again=again))
        if isinstance(error, CallFailed):
            self._count_call(error, reason)
        if judged:
            self._evaluator_failures += 1
            if isinstance(error, EnvironmentLacks):
                self._fatal = error
            elif self._evaluator_failures >= EVALUATOR_FAILURES:
                self._fatal = EvaluatorError(
                    f"The evaluator failed {self._evaluator_failures} times in a row, last with: {reason}",
                    "See what `kernelgrove doctor` says, then resume the search.",
                )

    def _not_asked(self, ended: Ended, error: BaseException) -> None:
        """No call was made, or none can be: the job waits as it was, for a later run."""
        self._store.give_back(ended.job)
        if isinstance(error, OverBudget):
            self._over = error
        elif isinstance(error, ProposerUnusable):
            self._fatal = error
        self._tell(finished(ended, None, self._seen, error=describe(error) if str(error) else "stopped", again=True))

    def _count_call(self, error: CallFailed, reason: str) -> None:
        """End the search where no job at all gets an answer: its jobs would be given up one after the other."""
        self._proposer_failures = self._proposer_failures + 1 if error.kind in _PROVIDERS_FAULT else 0
        if self._proposer_failures >= PROPOSER_FAILURES:
            self._fatal = ProposerUnusable(
                f"{self._proposer_failures} jobs in a row got no answer, the last with: {reason}",
                "Resume the search when the provider can be reached, or with another --model.",
            )

    # ------------------------------------------------------------------------------------------ small things

    def _seconds(self) -> float:
        return self._elapsed_before + self._clock() - self._begun

    def _spent(self, view: TreeView) -> Spent:
        cost = self._store.spent(self.search_id)
        return Spent(
            evaluations=evaluations_used(view),
            pending=evaluations_pending(view),
            seconds=self._seconds(),
            dollars=cost.cost_usd,
            tokens=cost.tokens,
            reserved_dollars=cost.reserved_usd,
            reserved_tokens=cost.reserved_tokens,
            stale=evaluations_since_best(view),
        )

    def _save_elapsed(self, final: bool = False) -> None:
        now = self._clock()
        if final or now - self._saved >= TICK_S:
            self._store.add_elapsed(self.search_id, now - self._saved)
            self._saved = now
