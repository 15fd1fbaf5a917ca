"""What every Store must do with jobs, paid calls and other processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from store_world import INSTANCE, PROBLEM, ROOT, SPEC, claim, evaluate, grow, ideate, implement, plan

from kernelgrove.engine.budget import Ledger
from kernelgrove.errors import Conflict, NotFound, StoreError
from kernelgrove.model import (
    Idea,
    Ideate,
    Implement,
    JobKind,
    JobState,
    Usage,
)
from kernelgrove.ports import (
    CodeResult,
    IdeasResult,
    Job,
    Proposal,
    ProposalRequest,
)

# ------------------------------------------------------------------------------------------------------ jobs


def test_claim_takes_the_oldest_of_the_kinds_asked_for(store: Ledger, search: int) -> None:
    view = store.tree(search)
    first, second = plan(store, search, ideate(view, key="a"), ideate(view, key="b"))
    other = store.create_search(SPEC, ROOT)
    assert store.claim(search, "me", [JobKind.EVALUATE], 60) is None
    assert store.claim(other, "me", list(JobKind), 60) is None
    assert [claim(store, JobKind.IDEATE).id, claim(store, JobKind.IDEATE).id] == [first, second]
    assert store.claim(None, "me", list(JobKind), 60) is None


def test_a_result_is_taken_once_and_only_from_the_holder(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    lost = claim(store, JobKind.IDEATE, "slow", lease_s=0)
    held = claim(store, JobKind.IDEATE, "quick")
    assert (held.id, held.attempt) == (lost.id, lost.attempt + 1)
    ideas = IdeasResult((Idea("a"),), "rules")
    assert not store.renew(lost, 60) and not store.finish(lost, ideas) and not store.fail(lost, "x", retry=True)
    assert store.renew(held, 60) and store.finish(held, ideas)
    assert not store.finish(held, ideas) and not store.fail(held, "x", retry=True) and not store.renew(held, 60)
    assert len(store.tree(search).nodes) == 2


def test_a_process_is_not_given_again_what_it_holds(store: Ledger, search: int) -> None:
    """Its clock may have jumped past its leases: it works on them all the same, and renews them."""
    plan(store, search, ideate(store.tree(search)))
    name = claim(store, JobKind.IDEATE, "a person", lease_s=0)
    assert store.claim(search, "a person", [JobKind.IDEATE], 0) is not None, "who may come back for it"
    process = "host:7:boot.1:controller.1"
    job = claim(store, JobKind.IDEATE, process, lease_s=0)
    assert job.attempt == name.attempt + 2 and store.claim(search, process, list(JobKind), 60) is None
    assert store.renew(job, 60) and store.claim(search, "other", list(JobKind), 60) is None
    assert store.finish(job, IdeasResult((Idea("a"),), "rules"))


def test_a_job_that_keeps_failing_is_dead_with_the_reason(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    for attempt in (1, 2, 3):
        job = claim(store, JobKind.IDEATE)
        assert job.attempt == attempt and store.fail(job, "rate limit", retry=True)
    (job_view,) = store.tree(search).jobs
    assert job_view.state is JobState.DEAD and "rate limit" in (job_view.reason or "")
    assert store.claim(None, "me", list(JobKind), 60) is None


def test_a_job_whose_lease_keeps_running_out_is_dead(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    assert [claim(store, JobKind.IDEATE, lease_s=0).attempt for _ in range(3)] == [1, 2, 3]
    assert store.claim(None, "me", list(JobKind), 60) is None
    assert [job.state for job in store.tree(search).jobs] == [JobState.DEAD]


def test_fail_without_retry_is_failed(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    assert store.fail(claim(store, JobKind.IDEATE), "no such model", retry=False)
    (job,) = store.tree(search).jobs
    assert (job.state, job.reason) == (JobState.FAILED, "no such model")


def test_release_gives_back_uncharged(store: Ledger, search: int) -> None:
    view = store.tree(search)
    plan(store, search, ideate(view, key="a"), ideate(view, key="b"), ideate(view, key="c"))
    claim(store, JobKind.IDEATE, "a"), claim(store, JobKind.IDEATE, "a"), claim(store, JobKind.IDEATE, "b")
    assert store.release("a") == 2
    assert [claim(store, JobKind.IDEATE).attempt for _ in range(2)] == [1, 1]


def test_recover_takes_from_the_dead_only(store: Ledger, search: int) -> None:
    view = store.tree(search)
    plan(store, search, *(ideate(view, key=key) for key in "abc"))
    other = store.create_search(SPEC, ROOT)
    plan(store, other, ideate(store.tree(other), key="elsewhere"))
    assert store.claim(other, "dead", [JobKind.IDEATE], 60)
    for owner, lease in (("dead", 60), ("alive", 60), ("alive", 0)):
        claim(store, JobKind.IDEATE, owner, lease)
    assert store.recover(search, lambda owner: owner == "alive") == 2
    states = [(job.key, job.state) for job in store.tree(search).jobs]
    assert states == [("a", JobState.QUEUED), ("b", JobState.LEASED), ("c", JobState.QUEUED)]
    assert store.tree(other).jobs[0].state is JobState.LEASED
    again = claim(store, JobKind.IDEATE)
    assert again.attempt == 2


def test_a_result_of_another_kind_is_refused(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    job = claim(store, JobKind.IDEATE)
    with pytest.raises(StoreError):
        store.finish(job, CodeResult("x = 1", "rules"))
    assert store.finish(job, IdeasResult((), "rules", "nothing to say"))


def test_many_threads_share_the_jobs(store: Ledger, search: int) -> None:
    view = store.tree(search)
    ids = plan(store, search, *(ideate(view, key=str(n)) for n in range(24)))
    taken: list[int] = []

    def work(owner: str) -> None:
        while (job := store.claim(search, owner, [JobKind.IDEATE], 60)) is not None:
            assert store.finish(job, IdeasResult((Idea(job.key),), "rules"))
            store.tree(search)
            taken.append(job.id)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)
    assert len(store.tree(search).nodes) == 25


def test_a_snapshot_never_changes(store: Ledger, search: int) -> None:
    before = store.tree(search)
    grow(store, search, "later")
    assert len(before.nodes) == 1
    with pytest.raises(TypeError):
        before.nodes[9] = before.nodes[before.root]  # type: ignore[index]


def test_decisions_are_told_apart_by_search(store: Ledger, search: int) -> None:
    other = store.create_search(SPEC, ROOT)
    (node,) = grow(store, search, "a")
    plan(store, search, actions=[Implement(node), Ideate(node, None, 1, 2)])
    assert (store.tree(search).step, store.tree(other).step) == (2, 0)


# ------------------------------------------------------------------------------------------------- the ledger

REQUEST = ProposalRequest(JobKind.IDEATE, "ideate", PROBLEM, INSTANCE, "H100", "triton", 1)
ANSWER = Proposal((Idea("tile"),), usage=Usage(100, 10, 0.25), request_text="ask", response_text="answer")


def call(store: Ledger, owner: str = "me", **reserve: Any) -> tuple[Job, int]:
    """A job and a call for it that was sent."""
    job = claim(store, JobKind.IDEATE, owner)
    completion = store.plan_completion(job, "openai:x", REQUEST, **reserve)
    store.mark_sent(completion)
    return job, completion


def test_a_call_is_charged_once_and_each_try_is_a_row(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    job, first = call(store, reserve_usd=1.0, reserve_tokens=500)
    assert (store.spent(search).cost_usd, store.spent(search).reserved_usd) == (0.0, 1.0)
    store.settle_completion(first, False, None, "rate limit")
    second = store.plan_completion(job, "openai:x", REQUEST, 1.0, 500)
    store.mark_sent(second)
    store.settle_completion(second, True, ANSWER)
    store.settle_completion(second, True, replace(ANSWER, usage=Usage(9, 9, 9.0)))  # settled once
    spent = store.spent(search)
    assert (spent.cost_usd, spent.tokens, spent.reserved_usd, spent.reserved_tokens) == (0.25, 110, 0.0, 0)


def test_after_a_crash_a_sent_call_is_charged_and_a_planned_one_is_free(store: Ledger, search: int) -> None:
    view = store.tree(search)
    plan(store, search, *(ideate(view, key=key) for key in "abc"))
    store.plan_completion(claim(store, JobKind.IDEATE, "dead"), "openai:x", REQUEST, 1.0, 100)
    call(store, "dead", reserve_usd=2.0, reserve_tokens=200)
    call(store, "alive", reserve_usd=4.0, reserve_tokens=400)
    store.recover(search, lambda owner: owner == "alive")
    spent = store.spent(search)
    assert (spent.cost_usd, spent.tokens, spent.reserved_usd, spent.reserved_tokens) == (2.0, 200, 4.0, 400)


def test_a_call_is_not_sent_once_its_job_was_taken_back(store: Ledger, search: int) -> None:
    plan(store, search, ideate(store.tree(search)))
    job = claim(store, JobKind.IDEATE, "slow")
    completion = store.plan_completion(job, "openai:x", REQUEST)
    store.recover(search, lambda owner: False)
    with pytest.raises(Conflict):
        store.mark_sent(completion)
    with pytest.raises(NotFound):
        store.mark_sent(completion + 99)


# --------------------------------------------------------------------------------------------- other processes


def test_what_one_has_written_the_other_sees(store: Ledger, search: int, again: Callable[[], Ledger]) -> None:
    other = again()
    assert other.tree(search) == store.tree(search)
    (node,) = grow(store, search, "tile")
    made = implement(other, search, node, "x = 1")
    evaluate(store)
    for one in (store, other, again()):
        view = one.tree(search)
        assert view.implementations[made.id].ok and view == store.tree(search)
        assert one.code(made.program) == "x = 1" and one.search(search).spec == SPEC


def test_of_two_that_decide_one_is_refused(store: Ledger, search: int, again: Callable[[], Ledger]) -> None:
    other, view = again(), store.tree(search)
    store.record(search, 0, [], [ideate(view, key="mine")])
    with pytest.raises(Conflict):
        other.record(search, 0, [], [ideate(view, key="yours")])
    assert [job.key for job in other.tree(search).jobs] == ["mine"]


def test_many_processes_share_the_jobs_and_none_is_done_twice(
    store: Ledger, search: int, again: Callable[[], Ledger]
) -> None:
    view = store.tree(search)
    ids = plan(store, search, *(ideate(view, key=str(n)) for n in range(24)))
    taken: list[int] = []

    def work(one: Ledger, owner: str) -> None:
        while (job := one.claim(search, owner, [JobKind.IDEATE], 60)) is not None:
            assert one.renew(job, 60) and one.finish(job, IdeasResult((Idea(job.key),), "rules"))
            taken.append(job.id)

    threads = [threading.Thread(target=work, args=(again(), f"process {n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)
    assert {node.idea.text for node in store.tree(search).nodes.values()} == {"the reference", *map(str, range(24))}


def test_all_of_it_is_there_after_closing(store: Ledger, search: int, again: Callable[[], Ledger]) -> None:
    (node,) = grow(store, search, "tile")
    implement(store, search, node, "x = 1")
    evaluate(store)
    before, record = store.tree(search), store.search(search)
    store.close()
    reopened = again()
    assert reopened.tree(search) == before and reopened.search(search) == record
