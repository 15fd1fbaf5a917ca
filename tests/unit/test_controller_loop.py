"""The loop over the real store, with a proposer and an evaluator that need nothing."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_search import SMALL, FakeEvaluator, FakeProposer, controller, spec

from kernelgrove import strategies
from kernelgrove.engine import events as told
from kernelgrove.engine import jobs
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.deciding import StrategyFailed
from kernelgrove.errors import EnvironmentLacks, EvaluatorError, ProposerError
from kernelgrove.model import (
    Action,
    EvaluationRequest,
    Implement,
    JobKind,
    JobState,
    Prune,
    Rate,
    SearchStatus,
    StoppedBy,
    TreeView,
    Usage,
)
from kernelgrove.ports import Proposal, ProposalRequest
from kernelgrove.storage.store import SqliteStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as opened:
        yield opened


def dump(view: TreeView) -> dict[str, Any]:
    base = {i.id: i.address for i in view.implementations.values()}
    return {
        "nodes": {n.address: (n.idea.text, n.round, base.get(n.base or 0)) for n in view.nodes.values()},
        "programs": {
            i.address: (i.program, i.evaluation.outcome if i.evaluation else None)
            for i in view.implementations.values()
        },
    }


def test_a_search_runs_to_its_end_and_says_so(store: SqliteStore) -> None:
    heard: list[told.Event] = []
    run = controller(store, events=heard.append)
    assert run.run() is StoppedBy.STRATEGY
    record, view = store.search(run.search_id), store.tree(run.search_id)
    assert (record.status, record.stopped_by) == (SearchStatus.FINISHED, StoppedBy.STRATEGY)
    assert record.elapsed_s > 0
    assert not view.in_flight()
    assert len(view.nodes) == 3
    assert all(i.evaluation for i in view.implementations.values())

    nodes = [e for e in heard if isinstance(e, told.NodeAdded)]
    assert [e.node for e in nodes] == [n.id for n in view.nodes.values() if n.parent is not None]
    judged = [e for e in heard if isinstance(e, told.JobFinished) and e.kind is JobKind.EVALUATE]
    assert len(judged) == len(view.implementations) and all(e.outcome is not None for e in judged)
    assert [e.round for e in heard if isinstance(e, told.RoundStarted)] == [0, 1]
    bests = [e for e in heard if isinstance(e, told.NewBest)]
    assert bests[-1].implementation == view.best(1)[0].id
    assert [e.time_ms for e in bests] == sorted((e.time_ms for e in bests), reverse=True)
    started = [e.job for e in heard if isinstance(e, told.JobStarted)]
    assert sorted(started) == sorted(e.job for e in heard if isinstance(e, told.JobFinished))
    assert isinstance(heard[0], told.SearchStarted) and not heard[0].resumed
    assert isinstance(heard[-1], told.Stopped) and heard[-1].spent.evaluations == len(judged)


@pytest.mark.parametrize("cap", [1, 4])
def test_the_cap_on_evaluations_is_exact(store: SqliteStore, cap: int) -> None:
    evaluator = FakeEvaluator(parallel=3)
    run = controller(store, evaluator=evaluator, budget=Budget(evaluations=cap), parallel=5)
    assert run.run() is StoppedBy.EVALUATIONS
    assert evaluator.calls == cap
    assert store.search(run.search_id).status is SearchStatus.FINISHED
    again = controller(store, evaluator=evaluator, search=run.search_id, budget=Budget(evaluations=cap + 1))
    assert again.run() is StoppedBy.EVALUATIONS
    assert evaluator.calls == cap + 1


def test_time_is_counted_over_sessions(store: SqliteStore) -> None:
    ticks = itertools.count()

    def clock() -> float:
        return float(next(ticks))  # every look at the clock is a second later

    run = controller(store, budget=Budget(seconds=30), clock=clock)
    assert run.run() is StoppedBy.TIME
    first = store.search(run.search_id).elapsed_s
    assert first >= 30
    calls = FakeProposer()
    assert controller(store, calls, search=run.search_id, budget=Budget(seconds=30)).run() is StoppedBy.TIME
    assert not calls.asked
    assert controller(store, search=run.search_id, budget=Budget(seconds=1e6)).run() is StoppedBy.STRATEGY
    assert not store.tree(run.search_id).in_flight()


def test_money_stops_a_search_and_is_counted_once(store: SqliteStore) -> None:
    proposer = FakeProposer(usage=Usage(100, 50, 0.25))
    run = controller(store, proposer, budget=Budget(dollars=1.0), parallel=1)
    assert run.run() is StoppedBy.DOLLARS
    spent = store.spent(run.search_id)
    assert spent.cost_usd == pytest.approx(0.25 * len(proposer.asked)) == pytest.approx(1.0)
    assert spent.tokens == 150 * len(proposer.asked)


def test_as_much_runs_at_once_as_the_evaluator_takes_and_no_more(store: SqliteStore) -> None:
    evaluator = FakeEvaluator(parallel=2)
    two = threading.Event()

    def hold(request: EvaluationRequest) -> float:
        if evaluator.at_once >= 2:
            two.set()
        two.wait(5)
        return 0.01

    evaluator.delay = hold
    controller(store, evaluator=evaluator, strategy=strategies.make("zero_shot", {"samples": 6}), parallel=6).run()
    assert evaluator.most_at_once == 2 and evaluator.calls == 6


def test_the_tree_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    """A search replayed with what its proposer answered, job by job, gives the same tree, with other timing."""
    trees = []
    for order in range(3):
        dice = random.Random(order)
        with open_store(tmp_path / f"{order}.db", create=True) as store:
            run = controller(
                store,
                FakeProposer(delay=lambda request, dice=dice: dice.random() * 0.02),
                FakeEvaluator(parallel=1 + order, delay=lambda request, dice=dice: dice.random() * 0.02),
                parallel=1 + 3 * order,
                strategy=strategies.make("branch", {**SMALL, "rounds": 3, "repair_quota": 1}),
            )
            run.run()
            trees.append(dump(store.tree(run.search_id)))
    assert trees[0] == trees[1] == trees[2]
    assert len(trees[0]["nodes"]) == 5


def test_a_proposer_that_fails_is_a_failed_job_with_its_reason(store: SqliteStore) -> None:
    def raises(request: ProposalRequest) -> Exception | None:
        return ZeroDivisionError("oh no") if request.kind is JobKind.IMPLEMENT and request.variant == 1 else None

    run = controller(store, FakeProposer(raises=raises, failing=0.0))
    assert run.run() is StoppedBy.STRATEGY
    failed = [j for j in store.tree(run.search_id).jobs if j.state is JobState.FAILED]
    assert len(failed) == 2 and {j.reason for j in failed} == {"ZeroDivisionError: oh no"}
    assert store.spent(run.search_id).calls == 1 + 1 + 4  # the calls that failed are in the ledger too


def test_a_proposer_that_asks_for_another_try_gets_it_and_not_for_ever(store: SqliteStore) -> None:
    tries: dict[str, int] = {}

    def raises(request: ProposalRequest) -> Exception | None:
        tries[request.key] = tries.get(request.key, 0) + 1
        good = 2 if request.key == "implement:r:0" else 99 if request.key == "implement:r.0-0:0" else 1
        return ProposerError("busy", retry=True) if tries[request.key] < good else None

    heard: list[told.Event] = []
    run = controller(store, FakeProposer(raises=raises, failing=0.0), events=heard.append)
    assert run.run() is StoppedBy.STRATEGY
    dead = [j for j in store.tree(run.search_id).jobs if j.state is JobState.DEAD]
    assert [j.key for j in dead] == ["implement:r.0-0:0"] and "busy" in str(dead[0].reason)
    assert (tries["implement:r:0"], tries["implement:r.0-0:0"]) == (2, jobs.MAX_ATTEMPTS)
    failures = [e for e in heard if isinstance(e, told.JobFinished) and e.error == "busy"]
    assert sorted((e.key, e.again) for e in failures) == [
        *[("implement:r.0-0:0", False), ("implement:r.0-0:0", True), ("implement:r.0-0:0", True)],
        ("implement:r:0", True),
    ]


@pytest.mark.parametrize("answer", [Proposal(), Proposal(code="  \n"), Proposal(note="nothing here to do")])
def test_no_code_is_no_implementation(store: SqliteStore, answer: Proposal) -> None:
    class Silent(FakeProposer):
        def propose(self, request: ProposalRequest) -> Proposal:
            return answer

    run = controller(store, Silent())
    assert run.run() is StoppedBy.STRATEGY
    view = store.tree(run.search_id)
    assert not view.implementations
    (job,) = [j for j in view.jobs if j.kind is JobKind.IMPLEMENT]
    assert job.state is JobState.FAILED and "gave no code" in str(job.reason)
    assert "no more ideas" in store.search(run.search_id).note


def test_repeated_and_surplus_ideas_are_dropped(store: SqliteStore) -> None:
    class Chatty(FakeProposer):
        def propose(self, request: ProposalRequest) -> Proposal:
            answer = super().propose(request)
            return Proposal(ideas=(*answer.ideas, *answer.ideas, *answer.ideas), code=answer.code)

    run = controller(store, Chatty(failing=0.0))
    run.run()
    ideas = [n.idea.text for n in store.tree(run.search_id).nodes.values()]
    assert len(ideas) == 3 and len(set(ideas)) == 3


def test_what_a_proposer_is_told(store: SqliteStore) -> None:
    proposer = FakeProposer(failing=0.4)
    run = controller(
        store, proposer, strategy=strategies.make("branch", {"rounds": 3, "widths": 3, "depths": 2, "repair_quota": 9})
    )
    run.run()
    asked = {r.key: r for r in proposer.asked}
    first = asked["implement:r:0"]
    assert first.idea is None and first.base is None and first.tried == ()
    repairs = [r for r in asked.values() if r.kind is JobKind.REPAIR]
    assert repairs
    for request in repairs:
        assert request.failed is not None and request.failed.code is not None
        assert request.failed.outcome == "wrong_result" and request.failed.message == "element 3 differs"
    later = [r for r in asked.values() if r.kind is JobKind.IDEATE and r.base is not None and len(r.lineage) == 1]
    assert later, "ideas of round 2 build on round 1"
    for request in later:
        assert request.base is not None and request.base.code is not None and request.base.time_ms is not None
        assert request.base.speedup == pytest.approx(2.0 / request.base.time_ms)
        assert request.lineage[-1] == request.base.idea
        told_of = [a for a in request.tried if a.outcome is not None]
        assert len(told_of) == 3 and all(a.code is None for a in told_of)
        assert request.translation is not None and request.translation.idea == ROOT_IDEA
    assert len({r.seed for r in asked.values()}) == len(asked)


def test_variants_of_an_idea_go_round_the_models(store: SqliteStore) -> None:
    models = [FakeProposer("one"), FakeProposer("two")]
    run = controller(store, models, strategy=strategies.make("zero_shot", {"samples": 4}))
    run.run()
    assert [len(m.asked) for m in models] == [2, 2]
    assert {i.model for i in store.tree(run.search_id).implementations.values()} == {"one", "two"}


def test_an_evaluator_that_stumbles_is_asked_again(store: SqliteStore) -> None:
    evaluator = FakeEvaluator(parallel=1, raises=lambda n: EvaluatorError("the judge died") if n in (1, 2, 4) else None)
    run = controller(store, evaluator=evaluator)
    assert run.run() is StoppedBy.STRATEGY
    assert all(i.evaluation for i in store.tree(run.search_id).implementations.values())


def test_an_evaluator_that_is_gone_ends_the_search_and_it_can_be_resumed(store: SqliteStore) -> None:
    run = controller(store, evaluator=FakeEvaluator(raises=lambda n: EvaluatorError("the judge died")))
    with pytest.raises(EvaluatorError, match="3 times in a row, last with: the judge died"):
        run.run()
    record = store.search(run.search_id)
    assert record.status is SearchStatus.FAILED and "the judge died" in record.note
    assert not [j for j in store.tree(run.search_id).jobs if j.state is JobState.LEASED]
    assert controller(store, search=run.search_id).run() is StoppedBy.STRATEGY


def test_a_device_that_is_gone_is_said_at_once(store: SqliteStore) -> None:
    evaluator = FakeEvaluator(parallel=1, raises=lambda n: EnvironmentLacks("the GPU fell off the bus"))
    with pytest.raises(EnvironmentLacks, match="fell off"):
        controller(store, evaluator=evaluator).run()
    assert evaluator.calls == 1


class Rogue:
    """A strategy that does what it is told to."""

    name = "rogue"

    def __init__(self, does: Callable[[TreeView], Sequence[Action]]) -> None:
        self.does = does

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        return self.does(view)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (lambda view: [][1], "'rogue' failed at step 0: IndexError"),
        (lambda view: [Implement(99)], "not in the tree"),
        (lambda view: [Prune(1, "why not")], "root"),
        (lambda view: [Implement(1, v) for v in range(99)], "99 jobs where 4 may be planned"),
        (lambda view: [Implement(1), Implement(1)], "asks twice for implement:r:0"),
    ],
)
def test_a_strategy_at_fault_is_named(store: SqliteStore, does: Any, says: str) -> None:
    run = controller(store, strategy=Rogue(does))
    with pytest.raises(StrategyFailed, match="rogue") as caught:
        run.run()
    assert says in str(caught.value)
    assert store.search(run.search_id).status is SearchStatus.FAILED
    assert store.tree(run.search_id).step == 0, "nothing of the decision was recorded"


def test_ratings_are_committed_and_a_wrong_number_of_them_is_refused(store: SqliteStore) -> None:
    class Rater(FakeProposer):
        def propose(self, request: ProposalRequest) -> Proposal:
            assert request.kind is JobKind.RATE
            return Proposal(ratings=(0.5,) * (1 if request.key.endswith(":0") else 3))

    def does(view: TreeView) -> Sequence[Action]:
        return [Rate((view.root,))] if len(view.jobs) < 2 and not view.in_flight() else []

    run = controller(store, Rater(), strategy=Rogue(does))
    assert run.run() is StoppedBy.STRATEGY
    view = store.tree(run.search_id)
    assert view.nodes[view.root].rating == 0.5
    assert [(j.state, j.reason) for j in view.jobs] == [
        (JobState.DONE, None),
        (JobState.FAILED, "fake gave 3 ratings for 1 ideas."),
    ]


def test_without_proposers_a_search_waits_for_other_processes(store: SqliteStore) -> None:
    search = store.create_search(spec(), ROOT_IDEA)
    run = controller(store, [], search=search)
    assert run.run() is StoppedBy.WAITING
    assert store.search(search).status is SearchStatus.PAUSED
    (job,) = store.tree(search).in_flight()
    assert job.kind is JobKind.IMPLEMENT
    assert controller(store, search=search).run() is StoppedBy.STRATEGY


def test_a_listener_that_raises_is_dropped(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: told.Event) -> None:
        raise RuntimeError("no terminal")

    assert controller(store, events=broken).run() is StoppedBy.STRATEGY
    assert sum("listener" in r.message for r in caplog.records) == 1


def test_patience_counts_evaluations_without_a_new_best(store: SqliteStore) -> None:
    class Worse(FakeProposer):
        def propose(self, request: ProposalRequest) -> Proposal:
            number = len(self.asked)
            answer = super().propose(request)
            return Proposal(ideas=answer.ideas, code=f"'ok {1 + number} {request.key}'" if answer.code else None)

    evaluator = FakeEvaluator(parallel=1)
    run = controller(
        store, Worse(), evaluator, strategy=strategies.make("zero_shot", {"samples": 50}),
        budget=Budget(patience=3), parallel=1,
    )  # fmt: skip
    assert run.run() is StoppedBy.PATIENCE
    assert 4 <= evaluator.calls <= 8
