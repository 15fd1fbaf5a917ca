"""The four ports: Strategy, Proposer, Evaluator, Store, and the records that cross them.

A contract suite in ``tests/contract`` runs over every implementation of each. Dependencies point one way:
``cli -> engine -> {strategies, storage, problems} -> ports -> model``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from .model import (
    Action,
    Device,
    EvaluationRequest,
    EvaluationResult,
    EvaluationView,
    Idea,
    Instance,
    JobKind,
    Problem,
    SearchStatus,
    StoppedBy,
    TreeView,
    Usage,
)

# ------------------------------------------------------------------------------------------------ strategy


@runtime_checkable
class Strategy(Protocol):
    """Decides what to do next. Pure: no I/O, no clock, no state between calls, no randomness but *rng*.

    ``propose`` is called after every change of the tree, with jobs in flight in the view. Returning nothing
    while jobs are in flight means "wait"; returning nothing when none are means the same as ``Stop``.
    At most *slots* actions that become jobs may be returned.
    """

    name: str

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]: ...


# ------------------------------------------------------------------------------------------------ proposer


@dataclass(frozen=True)
class Attempt:
    """One implementation as a prompt shows it: its idea, code (where shown) and what came of it.

    ``profile`` (JSON) is what the evaluator found besides: baselines, advice, kernels with registers and shared
    memory, what bounds each launch; empty where nothing is known."""

    idea: Idea
    code: str | None
    outcome: str | None
    message: str
    time_ms: float | None
    speedup: float | None
    basis: str | None
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Feedback:
    """An answer that could not be used, and why: fed back once, with the same request."""

    answer: str
    reason: str


@dataclass(frozen=True)
class ProposalRequest:
    """What a proposer is asked. ``key`` is stable across runs of the same search (kind and tree address), so a
    recorded completion is found by (problem digest, key). ``seed`` is derived from the search's seed and key."""

    kind: JobKind
    key: str
    problem: Problem
    instance: Instance
    target: str
    backend: str
    seed: int
    count: int = 1  # ideas wanted
    idea: Idea | None = None  # implement, repair
    variant: int = 0  # implement
    base: Attempt | None = None  # the implementation built on, with its code
    others: tuple[Attempt, ...] = ()  # ideate: further parents to draw on, with their code (crossover)
    failed: Attempt | None = None  # repair: the failed one, with its code and error text; one that passed: refine it
    earlier: tuple[Attempt, ...] = ()  # repair: what failed before it in the same chain, oldest first, without code
    lineage: tuple[Idea, ...] = ()
    tried: tuple[Attempt, ...] = ()  # ideas already tried on this problem and what they gave
    translation: Attempt | None = None  # what the reference gave, translated as it stands, without code
    options: Mapping[str, Any] = field(default_factory=dict)
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Proposal:
    """A proposer's answer: ideas, or one program. ``note`` says in one line why there are fewer than asked.

    A call that failed has one too, for the ledger: its raw texts, its usage, and ``failure``, the kind of failure
    (``engine/proposers/failures.py``)."""

    ideas: tuple[Idea, ...] = ()
    code: str | None = None
    ratings: tuple[float, ...] = ()
    usage: Usage = field(default_factory=Usage)
    note: str = ""
    request_text: str = ""  # raw, for the ledger
    response_text: str = ""
    failure: str = ""


@runtime_checkable
class Proposer(Protocol):
    """Turns a request into ideas or code, in one try. Thread-safe.

    Raises ProposerError (``retry``: asking again may help). Who asks tries again: a row in the ledger is one try."""

    name: str  # "rules", "openai:gpt-5"

    def propose(self, request: ProposalRequest) -> Proposal: ...


# ----------------------------------------------------------------------------------------------- evaluator


class Evaluator(Protocol):
    """Runs untrusted programs and judges them. Thread-safe: calls block their own thread only.

    A candidate's failure is a result, never an exception. Raises EnvironmentLacks when the device is not there,
    ProblemError from ``prepare`` when the reference itself is at fault, EvaluatorError when the judge cannot go on.
    """

    #: how many evaluations are useful at once
    parallel: int
    #: version of the measuring protocol: figures of different ones are not compared
    protocol: int

    def device(self) -> Device: ...

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        """Run the reference once at the sizes to be used (finding smaller ones on ``cpu``) and audit it."""

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult: ...

    def close(self) -> None: ...


# --------------------------------------------------------------------------------------------------- store


@dataclass(frozen=True)
class SearchSpec:
    """All that a search is started with; stored once and enough to resume it anywhere."""

    problem: Problem
    instance: Instance
    device: Device
    strategy: str
    strategy_options: Mapping[str, Any]
    models: tuple[str, ...]
    seed: int
    name: str | None = None
    precision: str = "default"
    tolerance: float | None = None
    protocol: int = 1  # of the evaluator: figures of different protocols are not compared
    options: Mapping[str, Any] = field(default_factory=dict)  # backend, trials, samples, timeout_s, budgets, ...


@dataclass(frozen=True)
class SearchRecord:
    id: int
    spec: SearchSpec
    status: SearchStatus
    stopped_by: StoppedBy | None
    created_at: float  # seconds since the epoch, UTC
    elapsed_s: float  # time spent running, over all of its sessions
    note: str = ""


@dataclass(frozen=True)
class PlannedJob:
    """A job to be queued by ``Store.record``; ``node``/``implementation`` as in JobView."""

    kind: JobKind
    key: str
    payload: Mapping[str, Any]
    node: int | None = None
    implementation: int | None = None
    max_attempts: int = 3


@dataclass(frozen=True)
class Job:
    """A claimed job. (id, owner, attempt) is the fence: a result is taken only while it still holds."""

    id: int
    search: int
    kind: JobKind
    key: str
    payload: Mapping[str, Any]
    node: int | None
    implementation: int | None
    owner: str
    attempt: int


@dataclass(frozen=True)
class IdeasResult:
    """Ends an ``ideate`` job: one node an idea, under payload ``parent``, in order."""

    ideas: tuple[Idea, ...]
    model: str
    note: str = ""


@dataclass(frozen=True)
class CodeResult:
    """Ends an ``implement`` or ``repair`` job: one implementation, and its ``evaluate`` job unless the same
    program was judged (or is about to be) in this search, or a deterministic outcome is known."""

    code: str
    model: str
    note: str = ""


@dataclass(frozen=True)
class EvaluatedResult:
    """Ends an ``evaluate`` job: one evaluation row."""

    result: EvaluationResult
    device: Device


@dataclass(frozen=True)
class RatedResult:
    ratings: Mapping[int, float]
    model: str


JobResult = IdeasResult | CodeResult | EvaluatedResult | RatedResult


class Store(Protocol):
    """The only state. Thread-safe. Every write is one transaction, which outlives any process once the call has
    returned. What cannot be had again (a result, a paid call, a status) is on the disk by then. What can (``record``,
    ``claim``, ``renew``, ``plan_completion``, ``add_elapsed``) is there at the latest with the next of those, in order:
    after a power cut a decision that nothing had come of yet may be made again, a leased job be queued.

    Raises NotFound for an unknown id, StoreError for a database that cannot be used.
    """

    # searches
    def create_search(self, spec: SearchSpec, root: Idea) -> int:
        """A new search in state ``running`` with its root node (address ``r``, round 0)."""

    def search(self, search: int) -> SearchRecord: ...

    def latest_search(self) -> int: ...

    def set_status(
        self, search: int, status: SearchStatus, stopped_by: StoppedBy | None = None, note: str = ""
    ) -> None: ...

    def take_search(self, seen: SearchRecord, owner: str) -> bool:
        """Set a search ``running``, noted as *owner*'s, unless its state is no longer the one *seen*: of two
        controllers that found it free at the same moment one gets it, and the other False."""

    def set_options(self, search: int, options: Mapping[str, Any]) -> None:
        """Replace ``spec.options`` (budgets raised on resume)."""

    def add_elapsed(self, search: int, seconds: float) -> None: ...

    # the tree
    def tree(self, search: int) -> TreeView: ...

    def code(self, program: str) -> str: ...

    # decisions and jobs
    def record(
        self, search: int, step: int, actions: Sequence[Action], jobs: Sequence[PlannedJob], note: str = ""
    ) -> tuple[int, ...]:
        """Record decision number *step*, apply its prunes, queue its jobs: one transaction. Raises Conflict if
        the search has moved past *step* (another controller). Returns the job ids."""

    def claim(self, search: int | None, owner: str, kinds: Iterable[JobKind], lease_s: float) -> Job | None:
        """Lease the oldest queued job of these kinds (or one whose lease expired, with attempt + 1). What an
        owner that is a process (``host:pid:…``) holds itself is never leased to it again, however late its clock says
        it is: it is alive, since it asks."""

    def renew(self, job: Job, lease_s: float) -> bool:
        """False when the lease was lost."""

    def finish(self, job: Job, result: JobResult) -> bool:
        """Commit a result and all that follows from it; False (and nothing written) when the fence is broken."""

    def give_back(self, job: Job) -> bool:
        """Queue a claimed job again as it was, no attempt charged; False when the fence is broken."""

    def fail(self, job: Job, reason: str, retry: bool) -> bool:
        """Give a job up: queued again with attempt + 1 while attempts are left and *retry*, else ``failed``
        (or ``dead`` past the maximum), the reason kept."""

    def release(self, owner: str) -> int:
        """Give back what *owner* holds, uncharged; returns how many."""

    def recover(self, search: int, alive: Callable[[str], bool]) -> int:
        """Re-queue leases of owners that are not alive (expired or *alive(owner)* is False), settle their
        ``sent`` completions as ``unknown``; returns how many jobs were re-queued."""

    # the ledger of proposer calls
    def plan_completion(
        self, job: Job, model: str, request: ProposalRequest, reserve_usd: float = 0.0, reserve_tokens: int = 0
    ) -> int: ...

    def mark_sent(self, completion: int) -> None: ...

    def settle_completion(
        self, completion: int, ok: bool, proposal: Proposal | None, error: str | None = None, *, unknown: bool = False
    ) -> None:
        """Settle a call, once. *unknown*: it may have been billed, so it is charged at its reservation."""

    # what is known
    def profile(self, evaluation: int) -> Mapping[str, Any]:
        """What an evaluator found besides outcome and time (see ``Attempt.profile``)."""

    def known_evaluation(self, search: int, program: str) -> EvaluationView | None:
        """A deterministic outcome for this program under this search's instance, device key, target, precision,
        tolerance and protocol, from any search in the store."""

    def close(self) -> None: ...
