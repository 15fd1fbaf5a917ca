"""Calls of proposers: which one answers a job, the ledger around each try, and what an answer is worth.

A job is asked with up to ``Policy.tries`` tries, a row in the ledger each. Between tries tenacity waits, longer each
time and never less than the provider asked for; an answer that cannot be used is asked for again with the reason. What
kinds of failure are worth another try, and what they cost, stands in ``proposers/failures.py``.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import KernelGroveError, ProposerError, ProposerUnusable
from ..model import Idea, JobKind, TreeView, Usage
from ..ports import (
    CodeResult,
    IdeasResult,
    Job,
    JobResult,
    Proposal,
    ProposalRequest,
    Proposer,
    RatedResult,
    SearchSpec,
    Store,
)
from .choice import Panel, Spending, choose
from .context import request_for
from .proposers.failures import ASK_AGAIN, TRANSIENT, UNUSABLE, CallFailed, Failure
from .proposers.limits import Halted
from .purse import Purse

if TYPE_CHECKING:
    from tenacity import RetryCallState

_log = logging.getLogger(__name__)


@runtime_checkable
class Reserves(Protocol):
    """A proposer that can say beforehand what a call may cost at most; without it nothing is reserved."""

    def reserve(self, request: ProposalRequest) -> Usage: ...


@runtime_checkable
class Limited(Protocol):
    """A proposer whose provider limits how much is asked at once; ``quiet`` tells that it asked to be left alone."""

    def slot(
        self, tokens: int, halt: threading.Event | None = None
    ) -> AbstractContextManager[Callable[[int], None]]: ...

    def quiet(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Policy:
    """How often and how long. A provider that asks for a longer rest than *longest_rest_s* ends the search instead."""

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_rest_s: float = 900.0


def assign(
    proposers: Panel | Sequence[Proposer],
    job: Job,
    view: TreeView,
    spent: Mapping[str, Spending] | None = None,
    busy: Mapping[str, int] | None = None,
) -> Proposer:
    """Who answers *job*: the same proposer whenever the same job is asked of the same tree (see ``choice``)."""
    return choose(Panel.of(proposers), job, view, spent or {}, busy or {})


@dataclass(frozen=True)
class Answer:
    proposal: Proposal
    model: str


def ask(
    store: Store,
    spec: SearchSpec,
    job: Job,
    view: TreeView,
    proposer: Proposer,
    purse: Purse | None = None,
    policy: Policy = Policy(),
    halt: threading.Event | None = None,
) -> Answer:
    """Ask *proposer* for *job*, with a row in the ledger before each try. Runs in a thread of its own.

    Raises what the last try raised, after the ledger says so; ProposerUnusable where no call can succeed; OverBudget
    and Halted where the call was not made.
    """
    request = request_for(job, view, spec, store.code, store.profile)
    asking = _Asking(store, job, proposer, purse, policy, halt or threading.Event())
    return Answer(asking.answer(request), proposer.name)


class _Asking:
    """The tries of one job."""

    def __init__(
        self,
        store: Store,
        job: Job,
        proposer: Proposer,
        purse: Purse | None,
        policy: Policy,
        halt: threading.Event,
    ) -> None:
        self._store, self._job, self._proposer = store, job, proposer
        self._purse, self._policy, self._halt = purse, policy, halt
        self._failures: Counter[Failure] = Counter()
        self._dice = random.Random(f"{job.key}/{job.attempt}")

    def answer(self, request: ProposalRequest) -> Proposal:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self._policy.tries),
            retry=retry_if_exception(self._again),
            wait=self._wait_s,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    try:
                        return self._try(request)
                    except CallFailed as failed:
                        self._failures[failed.kind] += 1
                        if failed.feedback is not None:
                            request = replace(request, feedback=failed.feedback)
                        _log.info("%s, try %d: %s", self._job.key, attempt.retry_state.attempt_number, failed)
                        raise
        except CallFailed as failed:
            if failed.kind in UNUSABLE:
                raise ProposerUnusable(failed.cause, failed.cure) from failed
            if (failed.retry_after_s or 0.0) > self._policy.longest_rest_s:
                minutes = (failed.retry_after_s or 0.0) / 60
                raise ProposerUnusable(
                    failed.cause, f"It asks to be left alone for {minutes:.0f} min: resume the search then."
                ) from failed
            raise
        raise AssertionError("tenacity returned without an answer")

    def _again(self, error: BaseException) -> bool:
        """Whether one more try is worth it; the number of tries is bounded beside this."""
        if not isinstance(error, CallFailed):
            return False
        if error.kind in TRANSIENT:
            return (error.retry_after_s or 0.0) <= self._policy.longest_rest_s
        return self._failures[error.kind] <= ASK_AGAIN.get(error.kind, 0)

    def _wait_s(self, state: RetryCallState) -> float:
        """Full jitter over a doubling bound, and never less than the provider asked for."""
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, CallFailed) or error.kind not in TRANSIENT:
            return 0.0
        bound = min(self._policy.longest_wait_s, self._policy.first_wait_s * 2.0 ** (state.attempt_number - 1))
        wait = self._dice.uniform(bound / 2, bound)
        if error.retry_after_s is None:
            return wait
        if isinstance(self._proposer, Limited):
            self._proposer.quiet(error.retry_after_s)
        return error.retry_after_s + self._dice.uniform(0.0, min(1.0, self._policy.first_wait_s))

    def _sleep(self, seconds: float) -> None:
        if self._halt.wait(seconds):
            raise Halted

    def _try(self, request: ProposalRequest) -> Proposal:
        proposer = self._proposer
        reserve = proposer.reserve(request) if isinstance(proposer, Reserves) else Usage()
        tokens = reserve.input_tokens + reserve.output_tokens
        place: AbstractContextManager[Any] = (
            proposer.slot(tokens, self._halt) if isinstance(proposer, Limited) else nullcontext(lambda tokens: None)
        )
        with place as used:
            row = self._plan(request, reserve)
            self._store.mark_sent(row)
            try:
                proposal = proposer.propose(request)
            except CallFailed as failed:
                self._settle(row, False, failed.proposal, describe(failed), unknown=failed.in_doubt)
                raise
            except BaseException as error:
                # Nobody says whether the call was made: where it would have cost something, it is charged.
                self._settle(row, False, None, describe(error), unknown=tokens > 0)
                raise
            self._settle(row, True, proposal, None)
            used(proposal.usage.input_tokens + proposal.usage.output_tokens)
            return proposal

    def _plan(self, request: ProposalRequest, reserve: Usage) -> int:
        name = self._proposer.name
        if self._purse is not None:
            return self._purse.plan(self._job, name, request, reserve, self._halt)
        tokens = reserve.input_tokens + reserve.output_tokens
        return self._store.plan_completion(self._job, name, request, reserve.cost_usd or 0.0, tokens)

    def _settle(self, row: int, ok: bool, proposal: Proposal | None, error: str | None, **more: Any) -> None:
        (self._purse.settle if self._purse is not None else self._store.settle_completion)(
            row, ok, proposal, error, **more
        )


def result_of(job: Job, answer: Answer, view: TreeView) -> JobResult:
    """What *answer* means for *job*. Raises ProposerError where it is no answer: no code, too few ratings."""
    proposal = answer.proposal
    if job.kind is JobKind.IDEATE:
        fresh = _fresh(proposal.ideas, job.payload, view)
        return IdeasResult(fresh[: int(job.payload["count"])], answer.model, proposal.note)
    if job.kind is JobKind.RATE:
        nodes = [int(n) for n in job.payload["nodes"]]
        if len(proposal.ratings) != len(nodes):
            raise ProposerError(f"{answer.model} gave {len(proposal.ratings)} ratings for {len(nodes)} ideas.")
        return RatedResult(dict(zip(nodes, proposal.ratings, strict=True)), answer.model)
    if not proposal.code or not proposal.code.strip():
        raise ProposerError(f"{answer.model} gave no code: {proposal.note or 'it did not say why'}.")
    return CodeResult(proposal.code, answer.model, proposal.note)


def _fresh(ideas: Sequence[Idea], payload: Mapping[str, object], view: TreeView) -> tuple[Idea, ...]:
    """*ideas* without those that already stand under the same parent and base: an idea is one node."""

    def said(idea: Idea) -> str:
        return " ".join(idea.text.casefold().split()).rstrip(".")

    there = {
        said(n.idea)
        for n in view.nodes.values()
        if n.parent == payload["parent"] and n.base == payload["base"] and n.parent is not None
    }
    fresh: list[Idea] = []
    for idea in ideas:
        if said(idea) and said(idea) not in there:
            there.add(said(idea))
            fresh.append(idea)
    return tuple(fresh)


def describe(error: BaseException) -> str:
    """One line for the store: our own errors as they are, others with their type."""
    text = " ".join(str(error).split())
    if isinstance(error, KernelGroveError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
