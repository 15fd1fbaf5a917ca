"""What every Store must do with searches, decisions and verdicts; ``test_store_contract_jobs`` has the rest. A new
store is added to ``store_backends``; nothing here knows which one it has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from store_world import CPU, INSTANCE, PASSED, PROBLEM, ROOT, SPEC, claim, evaluate, grow, ideate, implement, plan

from kernelgrove.engine.budget import Ledger
from kernelgrove.errors import Conflict, NotFound
from kernelgrove.model import (
    Basis,
    EvaluationResult,
    Idea,
    Ideate,
    JobKind,
    JobState,
    NodeState,
    Outcome,
    Prune,
    SearchStatus,
    Stage,
    StoppedBy,
)
from kernelgrove.ports import (
    CodeResult,
    IdeasResult,
    PlannedJob,
    RatedResult,
)

# -------------------------------------------------------------------------------------------------- searches


def test_a_search_comes_back_as_it_was_given(store: Ledger, search: int) -> None:
    record = store.search(search)
    assert record.spec == SPEC
    assert (record.status, record.stopped_by, record.elapsed_s, record.note) == (SearchStatus.RUNNING, None, 0.0, "")
    assert store.latest_search() == search


def test_a_new_search_has_its_root_alone(store: Ledger, search: int) -> None:
    view = store.tree(search)
    root = view.nodes[view.root]
    assert (root.address, root.round, root.parent, root.idea, root.state) == ("r", 0, None, ROOT, NodeState.OPEN)
    assert len(view.nodes) == 1 and not view.implementations and not view.jobs
    assert (view.step, view.seed, view.search) == (0, 7, search)


def test_status_options_and_time_are_kept(store: Ledger, search: int) -> None:
    store.set_status(search, SearchStatus.FINISHED, StoppedBy.EVALUATIONS, "done")
    store.set_options(search, {"trials": 9})
    store.add_elapsed(search, 1.5)
    store.add_elapsed(search, 2.0)
    record = store.search(search)
    assert (record.status, record.stopped_by, record.note) == (SearchStatus.FINISHED, StoppedBy.EVALUATIONS, "done")
    assert record.spec.options == {"trials": 9} and record.elapsed_s == pytest.approx(3.5)


def test_of_two_that_found_a_search_free_one_gets_it(store: Ledger, search: int) -> None:
    store.set_status(search, SearchStatus.PAUSED, StoppedBy.USER, "stopped")
    seen = store.search(search)
    assert store.take_search(seen, "one") and not store.take_search(seen, "two")
    taken = store.search(search)
    assert (taken.status, taken.stopped_by, taken.note) == (SearchStatus.RUNNING, None, "one")
    assert store.take_search(taken, "three"), "whoever has seen it running, and its owner dead, may take it"


def test_what_is_not_there_is_not_found(store: Ledger) -> None:
    with pytest.raises(NotFound):
        store.latest_search()
    for ask in (store.search, store.tree, lambda s: store.recover(s, lambda _: True)):
        with pytest.raises(NotFound, match="s99"):
            ask(99)
    with pytest.raises(NotFound):
        store.set_status(99, SearchStatus.FAILED)
    with pytest.raises(NotFound):
        store.record(99, 0, [], [])
    with pytest.raises(NotFound):
        store.code("0" * 64)


def test_the_same_text_under_two_names_is_two_problems(store: Ledger, search: int) -> None:
    other = store.create_search(replace(SPEC, problem=replace(PROBLEM, name="other", path=None)), ROOT)
    assert store.search(other).spec.problem.name == "other"
    assert store.search(search).spec.problem == PROBLEM


# ------------------------------------------------------------------------------------------ decisions, ideas


def test_record_refuses_a_step_that_is_not_the_next(store: Ledger, search: int) -> None:
    view = store.tree(search)
    store.record(search, 0, [Ideate(view.root, None, 2, 1)], [ideate(view)], "first")
    for step in (0, 2):
        with pytest.raises(Conflict):
            store.record(search, step, [], [ideate(view)])
    after = store.tree(search)
    assert after.step == 1 and len(after.jobs) == 1


def test_record_of_an_unknown_node_leaves_nothing(store: Ledger, search: int) -> None:
    with pytest.raises(NotFound):
        store.record(search, 0, [Prune(99, "no")], [ideate(store.tree(search))])
    assert store.tree(search).step == 0 and not store.tree(search).jobs


def test_ideas_become_nodes_in_order(store: Ledger, search: int) -> None:
    ids = grow(store, search, "tile", "vectorise")
    nodes = [store.tree(search).nodes[n] for n in ids]
    assert [(n.idea.text, n.address, n.round, n.model) for n in nodes] == [
        ("tile", "r.0-0", 1, "rules"),
        ("vectorise", "r.0-1", 1, "rules"),
    ]
    (id_,) = grow(store, search, "again", parent=nodes[1].id)
    below = store.tree(search).nodes[id_]
    assert below.address == "r.0-1.0-0" and below.parent == nodes[1].id


def test_addresses_do_not_depend_on_who_finishes_first(store: Ledger) -> None:
    trees = []
    for order in ((0, 1), (1, 0)):
        search = store.create_search(SPEC, ROOT)
        view = store.tree(search)
        plan(store, search, ideate(view, key="first"), ideate(view, key="second"))
        jobs = [claim(store, JobKind.IDEATE), claim(store, JobKind.IDEATE)]
        for index in order:
            store.finish(jobs[index], IdeasResult((Idea(f"idea of {jobs[index].key}"),), "rules"))
        trees.append({n.address: n.idea.text for n in store.tree(search).nodes.values()})
    assert trees[0] == trees[1] == {"r": "the reference", "r.0-0": "idea of first", "r.1-0": "idea of second"}


def test_prune_keeps_the_first_reason(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "hopeless")
    plan(store, search, actions=[Prune(node, "slower than eager")])
    plan(store, search, actions=[Prune(node, "again")])
    found = store.tree(search).nodes[node]
    assert (found.state, found.pruned_because) == (NodeState.PRUNED, "slower than eager")


def test_ratings_reach_their_nodes(store: Ledger, search: int) -> None:
    a, b = grow(store, search, "a", "b")
    plan(store, search, PlannedJob(JobKind.RATE, "rate", {"nodes": [a, b]}))
    assert store.finish(claim(store, JobKind.RATE), RatedResult({a: 0.9, b: float("nan")}, "rules"))
    view = store.tree(search)
    assert (view.nodes[a].rating, view.nodes[b].rating) == (0.9, None)


# ------------------------------------------------------------------------------- implementations, evaluations


def test_code_is_queued_for_evaluation_and_its_verdict_is_kept(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "tile")
    code = "import torch\nclass ModelNew: ...  # mine\n"
    made = implement(store, search, node, code)
    assert (made.address, made.node, made.evaluation, made.model) == ("r.0-0/0", node, None, "rules")
    assert store.code(made.program) == code
    (job,) = store.tree(search).in_flight(JobKind.EVALUATE)
    assert (job.key, job.implementation, job.node) == ("evaluate:r.0-0/0", made.id, node)
    evaluate(store)
    view = store.tree(search)
    found = view.implementations[made.id].evaluation
    assert found is not None and found.outcome is Outcome.OK and found.basis is Basis.PROJECTED
    assert (found.time_ms, found.baselines, found.speedup) == (0.5, dict(PASSED.baselines), dict(PASSED.speedup))
    assert view.best(1)[0].id == made.id
    assert not [job for job in view.jobs if job.kind is JobKind.EVALUATE]  # done evaluations leave the snapshot


def test_a_repair_hangs_on_what_it_repairs(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "tile")
    failed = implement(store, search, node, "x = 1").id
    evaluate(store, EvaluationResult(Outcome.COMPILE_ERROR, Stage.LOAD, "no ModelNew"))
    for n in (0, 1):
        plan(store, search, PlannedJob(JobKind.REPAIR, "repair", {"implementation": failed}, implementation=failed))
        assert store.finish(claim(store, JobKind.REPAIR), CodeResult(f"x = {n + 2}", "rules"))
    made = [i for i in store.tree(search).implementations.values() if i.repair_of == failed]
    assert [i.address for i in made] == ["r.0-0/0r0", "r.0-0/0r1"] and {i.node for i in made} == {node}


def test_the_same_program_is_judged_once(store: Ledger, search: int) -> None:
    a, b = grow(store, search, "a", "b")
    first = implement(store, search, a, "x = 1\n").id
    second = implement(store, search, b, "x = 1   # the same\r\n").id
    assert len(store.tree(search).in_flight(JobKind.EVALUATE)) == 1
    evaluate(store)
    third = implement(store, search, b, "x  =  1", variant=1).id
    made = store.tree(search).implementations
    assert [made[i].duplicate_of for i in (first, second, third)] == [None, first, first]
    assert len({made[i].evaluation.id for i in (first, second, third)}) == 1  # type: ignore[union-attr]
    assert not store.tree(search).in_flight()
    assert [i.id for i in store.tree(search).best(9)] == [first]


def test_a_duplicate_of_what_was_never_judged_is_judged(store: Ledger, search: int) -> None:
    a, b = grow(store, search, "a", "b")
    first = implement(store, search, a, "x = 1").id
    assert store.fail(claim(store, JobKind.EVALUATE), "the judge died", retry=False)
    assert [job.state for job in store.tree(search).jobs if job.kind is JobKind.EVALUATE] == [JobState.FAILED]
    second = implement(store, search, b, "x = 1").id
    evaluate(store)
    made = store.tree(search).implementations
    assert made[first].ok and made[second].ok and made[second].duplicate_of == first


def test_a_program_measured_again_is_spoken_for_by_the_middle_sealed_time(store: Ledger, search: int) -> None:
    a, b = grow(store, search, "a", "b")
    first = implement(store, search, a, "x = 1")
    evaluate(store, replace(PASSED, time_ms=0.1, timing="screened"))  # a lucky one
    second = implement(store, search, b, "x = 1")
    before = store.tree(search)
    said = []
    for time_ms in (0.5, 0.3, 0.4):
        plan(store, search, PlannedJob(JobKind.EVALUATE, f"again {time_ms}", {}, node=a, implementation=first.id))
        evaluate(store, replace(PASSED, time_ms=time_ms, time_interval=(time_ms, time_ms + 0.1), timing="sealed"))
        view = store.tree(search)
        for implementation in (first, second):
            made = view.implementations[implementation.id]
            assert made.evaluation == view.implementations[first.id].evaluation
            assert [e.time_ms for e in made.remeasured] == [e for e in [0.1, *said, time_ms] if e != made.time_ms]
        said.append(time_ms)
        speaks = view.implementations[first.id].evaluation
        assert speaks is not None and speaks.timing == "sealed"
        assert speaks.time_ms == sorted(said)[len(said) // 2]
        assert speaks.time_interval == pytest.approx((speaks.time_ms, speaks.time_ms + 0.1))
        assert view.best(1)[0].time_ms == speaks.time_ms
    assert before.implementations[first.id].time_ms == 0.1  # a snapshot stays what it was


def test_a_failure_on_measuring_again_speaks_unless_it_may_be_chance(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "a")
    made = implement(store, search, node, "x = 1")
    evaluate(store)
    for outcome, speaks in ((Outcome.TIMEOUT, Outcome.OK), (Outcome.WRONG_RESULT, Outcome.WRONG_RESULT)):
        plan(store, search, PlannedJob(JobKind.EVALUATE, outcome, {}, node=node, implementation=made.id))
        evaluate(store, EvaluationResult(outcome, Stage.CHECK, "why"))
        found = store.tree(search).implementations[made.id]
        assert found.evaluation is not None and found.evaluation.outcome is speaks
    assert len(found.remeasured) == 2 and not store.tree(search).best(1)


def test_an_implementation_is_made_once(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "a")
    implement(store, search, node, "x = 1")
    again = PlannedJob(JobKind.IMPLEMENT, "implement", {"node": node, "variant": 0}, node=node)
    (id_,) = plan(store, search, again)
    assert store.finish(claim(store, JobKind.IMPLEMENT), CodeResult("x = 2", "rules"))
    view = store.tree(search)
    assert len(view.implementations) == 1
    assert next(job for job in view.jobs if job.id == id_).state is JobState.FAILED


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_deterministic_outcomes_are_reused(store: Ledger, search: int, outcome: Outcome) -> None:
    stage = Stage.TIME if outcome is Outcome.OK else Stage.RUN
    (node,) = grow(store, search, "a")
    program = implement(store, search, node, "x = 1").program
    evaluate(store, replace(PASSED, outcome=outcome, stage=stage))
    reused = outcome in (Outcome.OK, Outcome.COMPILE_ERROR, Outcome.WRONG_RESULT, Outcome.RUNTIME_ERROR)
    known = store.known_evaluation(search, program)
    assert (known is not None) is reused
    other = store.create_search(SPEC, ROOT)
    (node,) = grow(store, other, "a")
    found = implement(store, other, node, "x = 1  # other")
    assert (found.evaluation is not None) is reused
    assert bool(store.tree(other).in_flight(JobKind.EVALUATE)) is not reused
    assert found.duplicate_of is None


@pytest.mark.parametrize(
    "change",
    [
        {"device": replace(CPU, key="NVIDIA H200")},
        {"device": replace(CPU, gpu="A100")},
        {"device": replace(CPU, basis=Basis.MEASURED)},
        {"problem": replace(PROBLEM, source="class Model: 1")},
        {"instance": replace(INSTANCE, check_size="full")},
        {"precision": "strict"},
        {"tolerance": 1e-2},
        {"protocol": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_is_reused_under_other_conditions(store: Ledger, search: int, change: dict[str, Any]) -> None:
    (node,) = grow(store, search, "a")
    program = implement(store, search, node, "x = 1").program
    evaluate(store)
    assert store.known_evaluation(store.create_search(replace(SPEC, seed=9), ROOT), program) is not None
    assert store.known_evaluation(store.create_search(replace(SPEC, **change), ROOT), program) is None


@pytest.mark.parametrize(
    ("provenance", "reused"), [("custom", True), ("mixed", False), ("library", False), (None, False)]
)
def test_what_passed_is_reused_where_a_provenance_is_demanded_only_if_it_has_it(
    store: Ledger, search: int, provenance: str | None, reused: bool
) -> None:
    (node,) = grow(store, search, "a")
    program = implement(store, search, node, "x = 1").program
    evaluate(store, replace(PASSED, provenance=provenance))
    demanding = store.create_search(replace(SPEC, options={"require": "custom"}), ROOT)
    assert (store.known_evaluation(demanding, program) is not None) is reused
    assert store.known_evaluation(store.create_search(replace(SPEC, options={"require": None}), ROOT), program)


@pytest.mark.parametrize(
    ("options", "passed", "failed"),
    [
        ({}, True, True),
        ({"trials": 5, "samples": 100, "backend": "triton"}, True, True),
        ({"trials": 3, "samples": 50, "baselines": ["eager"]}, True, True),
        ({"timeout_s": 5.0, "temperature": 0.3}, True, True),
        ({"trials": 6}, False, True),
        ({"samples": 200}, False, True),
        ({"baselines": ["eager", "max-autotune"]}, False, True),
        ({"backend": "cuda"}, False, False),
    ],
    ids=str,
)
def test_what_was_asked_less_of_is_not_reused(
    store: Ledger, search: int, options: dict[str, Any], passed: bool, failed: bool
) -> None:
    (node,) = grow(store, search, "a")
    good = implement(store, search, node, "x = 1").program
    evaluate(store)
    (node,) = grow(store, search, "b")
    bad = implement(store, search, node, "x = 2").program
    evaluate(store, replace(PASSED, outcome=Outcome.WRONG_RESULT, time_ms=None))
    other = store.create_search(replace(SPEC, options=options), ROOT)
    assert (store.known_evaluation(other, good) is not None, store.known_evaluation(other, bad) is not None) == (
        passed,
        failed,
    )


def test_a_screened_time_is_reused_only_behind_a_faster_one(store: Ledger, search: int) -> None:
    """It was left at that because it could not lead there; here it might."""
    (node,) = grow(store, search, "a")
    slow = implement(store, search, node, "x = 1").program
    evaluate(store, replace(PASSED, timing="screened", time_ms=0.5))
    other = store.create_search(SPEC, ROOT)
    assert store.known_evaluation(other, slow) is None
    (node,) = grow(store, other, "a")
    implement(store, other, node, "x = 2")
    evaluate(store, replace(PASSED, timing="sealed", time_ms=0.4))
    assert store.known_evaluation(other, slow) is not None


def test_strange_answers_are_stored(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "half a pair \ud800 and NUL \x00")
    implement(store, search, node, "x = '\ud800'")
    odd = replace(PASSED, max_error=float("inf"), detail={"worst": float("nan"), "deep": [{"x": float("inf")}]})
    evaluate(store, replace(odd, outcome=Outcome.WRONG_RESULT, time_ms=None, message="bad \udcff byte"))
    (made,) = store.tree(search).implementations.values()
    assert made.evaluation is not None and made.evaluation.message == "bad ? byte"
