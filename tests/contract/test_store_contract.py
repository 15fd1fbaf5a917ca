"""What every Store must do. A new store is added to ``store_backends``; nothing here knows which one it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_backends import BACKENDS, Backend

from kernelgrove.engine.budget import Ledger
from kernelgrove.errors import Conflict, NotFound, StoreError
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Ideate,
    Implement,
    ImplementationView,
    Instance,
    JobKind,
    JobState,
    NodeState,
    Outcome,
    Problem,
    Prune,
    SearchStatus,
    Stage,
    StoppedBy,
    TreeView,
    Usage,
)
from kernelgrove.ports import (
    CodeResult,
    EvaluatedResult,
    IdeasResult,
    Job,
    PlannedJob,
    Proposal,
    ProposalRequest,
    RatedResult,
    SearchSpec,
)

PROBLEM = Problem("row_softmax", "class Model: ...\n", path="/x/row_softmax.py", sizes={"small": {"N": 8}})
INSTANCE = Instance("row_softmax", PROBLEM.digest, "full", "N = 4096", "small", "N = 8")
CPU = Device("cpu", "H100", "cpu->H100", Basis.PROJECTED, {"torch": "2.13", "triton": "3.7"})
SPEC = SearchSpec(
    PROBLEM, INSTANCE, CPU, "branch", {"width": [3, 4]}, ("rules",), 7, name="mine", options={"trials": 5}
)
ROOT = Idea("the reference", "it is given", "reference")
PASSED = EvaluationResult(
    outcome=Outcome.OK,
    stage=Stage.TIME,
    trials_passed=5,
    trials_of=5,
    max_error=1e-7,
    basis=Basis.PROJECTED,
    time_ms=0.5,
    time_stats={"mean": 0.5, "n": 100},
    baselines={"eager": 1.0, "compile": None},
    speedup={"eager": 2.0, "compile": None},
    provenance="custom",
    advice=("wider loads",),
    detail={"sandbox": [{"layer": "seccomp", "state": "active"}]},
)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    found = BACKENDS[request.param]
    missing = found.missing()
    if missing:
        pytest.skip(missing)
    return found


@pytest.fixture
def store(backend: Backend, tmp_path: Path) -> Iterator[Ledger]:
    made = backend.new(tmp_path)
    yield made
    made.close()


@pytest.fixture
def again(backend: Backend, store: Ledger, tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Opens the same database once more, as another process would."""
    opened: list[Ledger] = []

    def open_() -> Ledger:
        opened.append(backend.again(tmp_path))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def search(store: Ledger) -> int:
    return store.create_search(SPEC, ROOT)


def plan(store: Ledger, search: int, *jobs: PlannedJob, actions: Any = ()) -> tuple[int, ...]:
    return store.record(search, store.tree(search).step, actions, jobs)


def ideate(view: TreeView, parent: int | None = None, key: str = "ideate", **payload: Any) -> PlannedJob:
    parent = view.root if parent is None else parent
    return PlannedJob(JobKind.IDEATE, key, {"parent": parent, "base": None, "count": 2, "round": 1} | payload)


def claim(store: Ledger, kind: JobKind, owner: str = "me", lease_s: float = 60.0) -> Job:
    job = store.claim(None, owner, [kind], lease_s)
    assert job is not None
    return job


def grow(store: Ledger, search: int, *ideas: str, parent: int | None = None) -> list[int]:
    """Nodes for *ideas*, through an ideate job."""
    plan(store, search, ideate(store.tree(search), parent))
    before = set(store.tree(search).nodes)
    assert store.finish(claim(store, JobKind.IDEATE), IdeasResult(tuple(Idea(text) for text in ideas), "rules"))
    return sorted(set(store.tree(search).nodes) - before)


def implement(store: Ledger, search: int, node: int, code: str, variant: int = 0) -> ImplementationView:
    plan(store, search, PlannedJob(JobKind.IMPLEMENT, "implement", {"node": node, "variant": variant}, node=node))
    assert store.finish(claim(store, JobKind.IMPLEMENT), CodeResult(code, "rules", "why"))
    made = store.tree(search).implementations
    return made[max(made)]


def evaluate(store: Ledger, result: EvaluationResult = PASSED, device: Device = CPU) -> None:
    assert store.finish(claim(store, JobKind.EVALUATE), EvaluatedResult(result, device))


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


@pytest.mark.parametrize(("provenance", "reused"), [("custom", True), ("mixed", False), (None, False)])
def test_what_passed_is_reused_where_a_provenance_is_demanded_only_if_it_has_it(
    store: Ledger, search: int, provenance: str | None, reused: bool
) -> None:
    (node,) = grow(store, search, "a")
    program = implement(store, search, node, "x = 1").program
    evaluate(store, replace(PASSED, provenance=provenance))
    demanding = store.create_search(replace(SPEC, options={"require": "custom"}), ROOT)
    assert (store.known_evaluation(demanding, program) is not None) is reused
    assert store.known_evaluation(store.create_search(replace(SPEC, options={"require": None}), ROOT), program)


def test_strange_answers_are_stored(store: Ledger, search: int) -> None:
    (node,) = grow(store, search, "half a pair \ud800 and NUL \x00")
    implement(store, search, node, "x = '\ud800'")
    odd = replace(PASSED, max_error=float("inf"), detail={"worst": float("nan"), "deep": [{"x": float("inf")}]})
    evaluate(store, replace(odd, outcome=Outcome.WRONG_RESULT, time_ms=None, message="bad \udcff byte"))
    (made,) = store.tree(search).implementations.values()
    assert made.evaluation is not None and made.evaluation.message == "bad ? byte"


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
