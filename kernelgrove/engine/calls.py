"""Calls of proposers: which one answers a job, the ledger around each call, and what an answer is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import KernelGroveError, ProposerError
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
from .context import request_for, stable_seed


@runtime_checkable
class Reserves(Protocol):
    """A proposer that can say beforehand what a call may cost at most; without it nothing is reserved."""

    def reserve(self, request: ProposalRequest) -> Usage: ...


def assign(proposers: Sequence[Proposer], job: Job, view: TreeView) -> Proposer:
    """Who answers *job*: the same proposer whenever the same job is asked. Variants of one idea go round."""
    if job.kind is JobKind.IMPLEMENT and job.node is not None and job.node in view.nodes:
        first = stable_seed(view.seed, view.nodes[job.node].address)
        return proposers[(first + int(job.payload.get("variant", 0))) % len(proposers)]
    return proposers[stable_seed(view.seed, job.key) % len(proposers)]


@dataclass(frozen=True)
class Answer:
    proposal: Proposal
    model: str


def ask(store: Store, spec: SearchSpec, job: Job, view: TreeView, proposer: Proposer) -> Answer:
    """Ask *proposer* for *job*, with a row in the ledger before the call. Runs in a thread of its own.

    Raises whatever the proposer raises, after the ledger says so.
    """
    request = request_for(job, view, spec, store.code)
    reserve = proposer.reserve(request) if isinstance(proposer, Reserves) else Usage()
    tokens = reserve.input_tokens + reserve.output_tokens
    row = store.plan_completion(job, proposer.name, request, reserve.cost_usd or 0.0, tokens)
    store.mark_sent(row)
    try:
        proposal = proposer.propose(request)
    except BaseException as error:
        store.settle_completion(row, False, None, describe(error))
        raise
    store.settle_completion(row, True, proposal)
    return Answer(proposal, proposer.name)


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
