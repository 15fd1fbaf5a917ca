"""Proposer jobs answered from outside: taking one, what to show whoever has it, and taking the answer.

An answer is read and checked at once. One that breaks the contract is refused with the reason, and the task stays as it
is; one that holds is committed as a proposer's would be, with a completion in the ledger (so that the search can be
replayed with ``recorded:``), and the running or next controller goes on from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from ..errors import Conflict, ProposerError, UsageError
from ..model import Usage
from ..ports import IdeasResult, Job, ProposalRequest
from ..storage import SqliteStore
from ..storage.ids import show
from ..storage.tasks import PREFIX, QUEUE, Task, open_tasks, owner, task
from . import answers
from .calls import Answer, result_of
from .context import request_for
from .prompts import Prompt, build


@dataclass(frozen=True)
class Shown:
    """A task as whoever answers it sees it."""

    task: Task
    request: ProposalRequest
    prompt: Prompt

    def document(self) -> dict[str, Any]:
        return {
            "task": self.task.id,
            "kind": str(self.task.job.kind),
            "search": show("s", self.task.job.search),
            "problem": self.task.problem,
            "target": self.task.target,
            "idea": self.request.idea.text if self.request.idea is not None else None,
            "prompt": self.prompt.text,
            "tokens": self.prompt.tokens,
            "contract": answers.contract(self.request).document(),
            "lease_until": self.task.lease_until,
        }


def show_task(store: SqliteStore, found: Task) -> Shown:
    """The prompt of *found*, as a language model would get it."""
    spec = store.search(found.job.search).spec
    request = request_for(found.job, store.tree(found.job.search), spec, store.code, store.profile)
    return Shown(found, request, build(request))


def take(store: SqliteStore, search: int | None, name: str, lease_s: float) -> Task | None:
    """Lease the oldest open task for *name*; None where none is open."""
    for found in open_tasks(store, search):
        if found.holder is None and store.claim_job(found.job.id, owner(name), lease_s) is not None:
            return task(store, found.id)
    return None


def release(store: SqliteStore, text: str) -> Task:
    """Give a task back, uncharged, whoever holds it. Raises UsageError for one that nobody outside holds."""
    found = task(store, text)
    if found.holder is None:
        raise UsageError(f"{text} is open: nobody holds it.", "Take it with `kernelgrove tasks next`.")
    _outside(found)
    if not store.give_back(replace(found.job, owner=found.holder)):
        raise Conflict(f"{text} was answered or taken by somebody else meanwhile.", "See `kernelgrove tasks ls`.")
    return task(store, text)


def answer(store: SqliteStore, text: str, content: str, name: str | None = None, cost_usd: float = 0.0) -> str:
    """Take *content* as the answer to the task *text* and commit what it means; says in a line what that is.

    Raises UsageError for an answer that breaks the contract (the task stays open), for a task that is over, or that
    a running search is asking a model for; Conflict where somebody else answered it meanwhile.
    """
    found = task(store, text)
    _outside(found)
    shown = show_task(store, found)
    try:
        proposal = answers.read(shown.request, content)
    except answers.Unreadable as wrong:
        raise UsageError(f"{text}: {wrong} The task stays open.", answers.contract(shown.request).words) from None
    job = _hold(store, found, name or QUEUE)
    model = f"{QUEUE}:{name}" if name else QUEUE
    proposal = replace(proposal, usage=Usage(cost_usd=cost_usd), request_text=shown.prompt.text, response_text=content)
    try:
        result = result_of(job, Answer(proposal, model), store.tree(job.search))
    except ProposerError as refused:
        raise UsageError(f"{text}: {refused} The task stays open.") from None
    row = store.plan_completion(job, model, shown.request, cost_usd, 0)
    store.mark_sent(row)
    store.settle_completion(row, True, proposal)
    if not store.finish(job, result):
        raise Conflict(f"{text} was answered or taken by somebody else meanwhile.", "See `kernelgrove tasks ls`.")
    if isinstance(result, IdeasResult):
        again = len(proposal.ideas) - len(result.ideas)
        return f"{text}: {len(result.ideas)} ideas taken" + (
            f", {again} left out: they stand there already" if again else ""
        )
    if proposal.ratings:
        return f"{text}: {len(proposal.ratings)} ratings taken"
    return f"{text}: a program of {len((proposal.code or '').splitlines())} lines taken"


def _hold(store: SqliteStore, found: Task, name: str) -> Job:
    """The job under the lease that it is in, or under a new one where it is open."""
    holder = found.holder or owner(name)
    job = store.claim_job(found.job.id, holder, 60.0)
    if job is None:
        raise Conflict(f"{found.id} was answered or taken by somebody else meanwhile.", "See `kernelgrove tasks ls`.")
    return job


def _outside(found: Task) -> None:
    if not found.outside:
        raise UsageError(
            f"{found.id} is being asked of a model by a running search.",
            "Start a search with --model queue to answer it.",
        )


def held_for(found: Task) -> str:
    """``claude, 42 min left``; empty for an open task."""
    if found.holder is None or found.lease_until is None:
        return ""
    who = found.holder.removeprefix(PREFIX)
    return f"{who}, {max(0.0, found.lease_until - time.time()) / 60:.0f} min left"
