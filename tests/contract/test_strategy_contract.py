"""What every strategy must do, over a simulated world: no store, no clock, jobs that end in any order, or not at all.

A new strategy is added to ``CASES`` first. One that is not in the registry is named on the command line:

    pytest tests/contract/test_strategy_contract.py --strategy my_strategies:Mine --strategy-option samples=3
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategy_world import World, choose, grow, luck

from kernelgrove import strategies
from kernelgrove.model import JobKind, JobState, JobView, Prune, Stop
from kernelgrove.ports import Strategy


@dataclass(frozen=True)
class Case:
    """A strategy with options, the most jobs that it may ask for, and whether its tree is the same whatever the order
    in which its jobs end (as that of all that decide by rounds)."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    most: int = 200
    order_free: bool = False

    def make(self) -> Strategy:
        return strategies.make(self.name, self.options)


CASES = [
    Case("zero_shot", {"samples": 5}, 5, order_free=True),
    Case("branch", {"rounds": 3, "widths": "3,2", "depths": "2,1", "bank": 2}, 60, order_free=True),
    Case(
        "branch",
        {"rounds": 3, "width": 2, "depth": 2, "repairs": 2, "repair_quota": 3, "hopeless": 1.5, "together": True},
        60,
        order_free=True,
    ),
    Case("refine", {"chains": 2, "turns": 8, "stuck": 2}, 60),
    Case("tree_of_thought", {"rounds": 3, "breadth": 3, "depth": 2}, 120, order_free=True),
    Case("tree_of_thought", {"rounds": 3, "breadth": 2, "thoughts": 3, "search": "dfs"}, 120, order_free=True),
    Case("mcts", {"ideas": 12, "at_once": 3}, 120),
    Case("mcts", {"ideas": 12, "policy": "thompson", "repairs": 1}, 120),
    Case("evolve", {"ideas": 12, "at_once": 4, "novelty": 0.9}, 140),
    Case("evolve", {"ideas": 12, "islands": 3, "migrate": 2, "starts": 1, "mutation": 0, "novelty": 1}, 140),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    cases = CASES
    mine = metafunc.config.getoption("--strategy", default=None)
    if mine:
        given_options = dict(pair.split("=", 1) for pair in metafunc.config.getoption("--strategy-option"))
        cases = [Case(mine, given_options, 5000)]
    metafunc.parametrize("case", cases, ids=[f"{c.name}-{i}" for i, c in enumerate(cases)])


relaxed = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 10_000)
orders = st.randoms(use_true_random=False)


@given(seed=seeds, order=orders, slots=st.integers(1, 9), measured=st.booleans())
@relaxed
def test_it_ends_within_its_means(case: Case, seed: int, order: random.Random, slots: int, measured: bool) -> None:
    world = grow(World(seed, measured=measured), case.make(), order, slots=slots, most=case.most)
    asked = [j for j in world.jobs.values() if j.kind is not JobKind.EVALUATE]
    assert len(asked) <= case.most
    assert not world.view().in_flight(), "it stopped with work under way"
    world.check()


@given(seed=seeds, order=orders, rates=st.sampled_from([0.0, 1.0]), dry=st.sampled_from([0.0, 0.5, 1.0]))
@relaxed
def test_it_ends_where_ideas_run_dry_and_nobody_rates(
    case: Case, seed: int, order: random.Random, rates: float, dry: float
) -> None:
    grow(World(seed, rates=rates, dry=dry), case.make(), order, most=case.most).check()


@given(seed=seeds, order=orders)
@relaxed
def test_it_leaves_pruned_nodes_alone(case: Case, seed: int, order: random.Random) -> None:
    # Work planned before a node was pruned still ends; plan() raises on anything asked for afterwards.
    grow(World(seed), case.make(), order, most=case.most, prune=0.2).check()


@given(seed=seeds, order=st.integers(0, 10_000))
@relaxed
def test_same_seed_and_order_give_the_same_tree(case: Case, seed: int, order: int) -> None:
    one, two = (grow(World(seed), case.make(), random.Random(order), most=case.most) for _ in range(2))
    assert one.tree() == two.tree()
    assert one.view() == two.view()


@given(seed=seeds, order=orders, slots=st.integers(1, 9))
@relaxed
def test_order_and_slots_change_nothing(case: Case, seed: int, order: random.Random, slots: int) -> None:
    if not case.order_free:
        pytest.skip(f"{case.name} learns from results as they come")
    first = grow(World(seed), case.make(), random.Random(0))
    other = grow(World(seed), case.make(), order, slots=slots)
    assert first.tree() == other.tree()


#: Seeds of worlds in which repairs, or what was implemented anew, once hung on how many of them had a slot.
CUT_SHORT = (84, 110, 128, 154)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("seed", CUT_SHORT)
def test_a_step_that_slots_cut_short_is_gone_on_with(case: Case, seed: int, slots: int) -> None:
    if not case.order_free:
        pytest.skip(f"{case.name} learns from results as they come")
    first = grow(World(seed), case.make(), random.Random(0), slots=9)
    other = grow(World(seed), case.make(), random.Random(0), slots=slots)
    assert first.tree() == other.tree()


@given(seed=seeds, order=orders, measured=st.booleans())
@relaxed
def test_it_keeps_nothing_between_calls(case: Case, seed: int, order: random.Random, measured: bool) -> None:
    """A search cut at any point and resumed decides the same: so does a new object, and one that has seen all before;
    whether a job is leased or queued is no difference."""
    old, world = case.make(), World(seed, measured=measured)
    for _ in range(20 * case.most):
        actions = choose(old, world, 3)
        assert choose(case.make(), world, 3) == actions
        assert choose(old, world, 3) == actions, "asked again, it says something else"
        leased = World(seed)
        leased.__dict__ = {**world.__dict__, "jobs": {i: _lease(j) for i, j in world.jobs.items()}}
        assert choose(case.make(), leased, 3) == actions
        if actions:
            world.apply(actions, 3)
        if any(isinstance(a, Stop) for a in actions):
            return
        waiting = world.view().in_flight()
        if waiting:
            world.end(order.choice(waiting))
    raise AssertionError("it does not end")


@given(seed=seeds, order=orders, jobs=st.integers(1, 60), first=st.sampled_from(CASES))
@relaxed
def test_it_goes_on_with_what_another_strategy_began(
    case: Case, seed: int, order: random.Random, jobs: int, first: Case
) -> None:
    world = grow(World(seed), first.make(), order, most=first.most, jobs=jobs)
    grow(world, case.make(), order, most=case.most).check()


def _lease(job: JobView) -> JobView:
    return replace(job, state=JobState.LEASED) if job.state is JobState.QUEUED else job


def test_it_draws_no_global_random_numbers(case: Case) -> None:
    random.seed(5)
    before = random.getstate()
    grow(World(3), case.make(), random.Random(1), most=case.most)
    assert random.getstate() == before


def test_it_never_looks_at_a_clock(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*args: object) -> float:
        raise AssertionError("it looked at a clock")

    strategy, world = case.make(), World(3)
    for clock in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns", "process_time"):
        monkeypatch.setattr(time, clock, looked)
    grow(world, strategy, random.Random(1), most=case.most)


def test_a_large_tree_costs_in_proportion(case: Case) -> None:
    """Calls made for one decision at four times the nodes: a strategy that looks at all pairs makes sixteen times as
    many. (benchmarks/strategies measures milliseconds.)"""
    calls = [_calls(case, nodes) for nodes in (150, 600)]
    assert calls[1] < 8 * calls[0]


def _calls(case: Case, nodes: int) -> int:
    world = _large(nodes)
    count = 0

    def watch(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    strategy, view = case.make(), world.view()
    sys.setprofile(watch)
    try:
        strategy.propose(view, 4, random.Random(1))
    finally:
        sys.setprofile(None)
    return count


@cache
def _large(nodes: int) -> World:
    """A tree of this many ideas, each implemented and judged, as breeding from the fastest of late would grow it."""
    world = World(7, dry=0.0)
    for variant in range(4):
        world.apply([_implement(1, variant)], 1)
    _settle(world)
    at = 0
    while len(world.nodes) <= nodes:
        passed = [i for i in world.implementations.values() if i.ok and world.nodes[i.node].state.value == "open"]
        base = passed[int(luck(7, "base", at) * len(passed))]
        world.apply([_ideate(base.node, base.id, 2, at // 3 + 1)], 1)
        _settle(world)
        for node in [n for n in world.nodes.values() if n.id > 1 and not any(i.node == n.id for i in _of(world))][-4:]:
            if not any(j.node == node.id and j.kind is JobKind.IMPLEMENT for j in world.jobs.values()):
                world.apply([_implement(node.id, 0)], 1)
        _settle(world)
        at += 1
    return world


def _of(world: World) -> list[Any]:
    return list(world.implementations.values())


def _settle(world: World) -> None:
    while True:
        waiting = world.view().in_flight()
        if not waiting:
            return
        world.end(waiting[0])


def _implement(node: int, variant: int) -> Any:
    from kernelgrove.model import Implement

    return Implement(node, variant)


def _ideate(parent: int, base: int, count: int, round_: int) -> Any:
    from kernelgrove.model import Ideate

    return Ideate(parent, base, count, round_)


def test_every_strategy_is_in_the_suite() -> None:
    assert {case.name for case in CASES} == set(strategies.names())


def test_the_suite_sees_what_it_looks_for() -> None:
    """A strategy that prunes a node and goes on with it, and one that never ends, are caught."""

    class Forgetful:
        name = "forgetful"

        def propose(self, view: Any, slots: int, rng: random.Random) -> Any:
            if not view.implementations:
                return [_implement(1, 0)] if not view.jobs else []
            if len(view.nodes) < 2:
                return [] if view.in_flight() else [_ideate(1, 1, 1, 1)]
            return [Prune(2, "no good"), _implement(2, 0)]

    with pytest.raises(Exception, match="pruned"):
        grow(World(3, dry=0.0), Forgetful(), random.Random(1), most=50)

    class Endless:
        name = "endless"

        def propose(self, view: Any, slots: int, rng: random.Random) -> Any:
            return [_implement(1, view.step)]

    with pytest.raises(AssertionError, match="does not end"):
        grow(World(3), Endless(), random.Random(1), most=20)
