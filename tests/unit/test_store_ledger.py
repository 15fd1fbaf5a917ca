"""The ledger of paid calls: money counted once, crashes charged at the reservation, answers kept whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import select

from kernelgrove.errors import Conflict, NotFound, StoreError
from kernelgrove.model import Basis, Device, Idea, Instance, JobKind, Problem, Usage
from kernelgrove.ports import IdeasResult, Job, PlannedJob, Proposal, ProposalRequest, SearchSpec
from kernelgrove.storage import Spent, SqliteStore, open_store
from kernelgrove.storage.recorded import completion_for, completions
from kernelgrove.storage.tables import COMPLETION

PROBLEM = Problem("relu", "class Model: ...")
INSTANCE = Instance("relu", PROBLEM.digest, "full", "x", "full", "x")
GPU = Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED, {"torch": "2.11"})
SPEC = SearchSpec(PROBLEM, INSTANCE, GPU, "branch", {}, ("rules",), 1)


@cache
def _new_file() -> bytes:
    """A database just made: copying it is quicker than migrating for every test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        open_store(path, create=True).close()
        return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    path = tmp_path / "grove.db"
    path.write_bytes(_new_file())
    with open_store(path) as made:
        yield made


def take(store: SqliteStore, kind: JobKind, owner: str = "me") -> Job:
    job = store.claim(None, owner, [kind], 60)
    assert job is not None
    return job


def pay(store: SqliteStore, search: int, usage: Usage, ok: bool = True, **reserve: float) -> Proposal:
    view = store.tree(search)
    store.record(search, view.step, [], [PlannedJob(JobKind.IDEATE, "ideate:r:0", {"parent": view.root})])
    job = take(store, JobKind.IDEATE)
    request = ProposalRequest(JobKind.IDEATE, "ideate:r:0", PROBLEM, INSTANCE, "H200", "triton", 1)
    call = store.plan_completion(job, "openai:x", request, **reserve)  # type: ignore[arg-type]
    store.mark_sent(call)
    ideas = (Idea("tile", "reuse", "memory"), Idea("split"))
    proposal = Proposal(ideas, None, (0.5,), usage, "two of three", "the prompt", "the answer")
    store.settle_completion(call, ok, proposal, None if ok else "it refused")
    store.settle_completion(call, False, None, "again")  # settled once
    store.finish(job, IdeasResult(ideas if ok else (), "openai:x"))
    return proposal


def spent_by(store: SqliteStore, search: int) -> Spent:
    """What is spent, by a store that has summed up before and by one that has not."""
    found = store.spent(search)
    with open_store(store.location.path) as fresh:
        assert fresh.spent(search) == found
    return found


def test_money_is_counted_once(store: SqliteStore) -> None:
    search = store.create_search(SPEC, Idea("x"))
    assert spent_by(store, search).cost_usd == 0.0
    pay(store, search, Usage(100, 10, 0.25))
    assert spent_by(store, search).cost_usd == 0.25
    pay(store, search, Usage(50, 5, None))
    pay(store, search, Usage(7, 0, 0.5), ok=False)
    spent = spent_by(store, search)
    assert (spent.calls, spent.cost_usd, spent.unpriced) == (3, 0.75, 1)
    assert (spent.input_tokens, spent.output_tokens, spent.tokens) == (157, 15, 172)
    assert (spent.reserved_usd, spent.reserved_tokens) == (0.0, 0)


def test_after_a_crash_a_sent_call_is_charged_and_a_planned_one_is_free(store: SqliteStore) -> None:
    search = store.create_search(SPEC, Idea("x"))
    view = store.tree(search)
    jobs = [PlannedJob(JobKind.IDEATE, f"ideate:{n}", {"parent": view.root}) for n in range(3)]
    store.record(search, 0, [], jobs)
    request = ProposalRequest(JobKind.IDEATE, "k", PROBLEM, INSTANCE, "H200", "triton", 1)
    planned = store.plan_completion(take(store, JobKind.IDEATE, "dead"), "m", request, 1.0, 100)
    sent = store.plan_completion(take(store, JobKind.IDEATE, "dead"), "m", request, 2.0, 200)
    store.mark_sent(sent)
    living = store.plan_completion(take(store, JobKind.IDEATE, "alive"), "m", request, 4.0, 400)
    store.mark_sent(living)
    assert (spent_by(store, search).cost_usd, spent_by(store, search).reserved_usd) == (0.0, 7.0)
    store.recover(search, lambda owner: owner == "alive")
    with store.read() as connection:
        rows = connection.execute(select(COMPLETION.c.id, COMPLETION.c.state))
        states = {row[0]: row[1] for row in rows}
    assert states == {planned: "abandoned", sent: "unknown", living: "sent"}
    spent = spent_by(store, search)
    assert (spent.cost_usd, spent.tokens, spent.calls) == (2.0, 200, 1)
    assert (spent.reserved_usd, spent.reserved_tokens) == (4.0, 400)


def test_answers_come_back_whole(store: SqliteStore) -> None:
    search = store.create_search(SPEC, Idea("x"))
    first = pay(store, search, Usage(1, 2, 0.1))
    pay(store, search, Usage(1, 2, 0.1), ok=False)
    assert completion_for(store, PROBLEM.digest, "ideate:r:0") == first
    assert completion_for(store, PROBLEM.digest, "ideate:r:0", search=search) == first
    assert completion_for(store, PROBLEM.digest, "ideate:r:0", search=search + 1) is None
    assert completion_for(store, PROBLEM.digest, "ideate:r:1") is None
    kept = list(completions(store, search))
    assert [(c.state, c.proposal, c.error) for c in kept] == [("ok", first, None), ("error", None, "it refused")]
    with pytest.raises(NotFound):
        list(completions(store, 99))


@pytest.mark.parametrize("statement", ["UPDATE completion SET cost_usd = 0", "DELETE FROM completion"])
def test_a_settled_call_never_changes(store: SqliteStore, statement: str) -> None:
    pay(store, store.create_search(SPEC, Idea("x")), Usage(1, 1, 1.0))
    with pytest.raises(StoreError, match="never"), store.write() as connection:
        connection.exec_driver_sql(statement)


def test_a_call_must_not_be_sent_after_its_job_was_taken_back(store: SqliteStore) -> None:
    search = store.create_search(SPEC, Idea("x"))
    store.record(search, 0, [], [PlannedJob(JobKind.IDEATE, "k", {"parent": store.tree(search).root})])
    request = ProposalRequest(JobKind.IDEATE, "k", PROBLEM, INSTANCE, "H200", "triton", 1)
    call = store.plan_completion(take(store, JobKind.IDEATE, "dead"), "m", request, 5.0)
    store.recover(search, lambda _: False)
    with pytest.raises(Conflict, match="abandoned"):
        store.mark_sent(call)
    store.settle_completion(call, True, Proposal(usage=Usage(1, 1, 1.0)))  # too late
    assert store.spent(search).cost_usd == 0.0


def test_a_call_that_is_not_there(store: SqliteStore) -> None:
    with pytest.raises(NotFound):
        store.mark_sent(99)
    with pytest.raises(NotFound):
        store.settle_completion(99, True, Proposal())
