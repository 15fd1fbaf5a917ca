"""What every strategy must do, over a simulated world: no store, no clock, jobs that end in any order, or not at all.

A new strategy is added to ``CASES`` first.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelgrove import strategies
from kernelgrove.engine.planning import plan
from kernelgrove.model import (
    Action,
    Basis,
    EvaluationView,
    Idea,
    ImplementationView,
    JobKind,
    JobState,
    JobView,
    NodeState,
    NodeView,
    Outcome,
    Prune,
    Stage,
    Stop,
    TreeView,
)
from kernelgrove.ports import Strategy

#: name, options, the most jobs that it may ask for
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("zero_shot", {"samples": 5}, 5),
    ("branch", {"rounds": 3, "widths": "3,2", "depths": "2,1", "bank": 2}, 60),
    ("branch", {"rounds": 2, "width": 2, "depth": 2, "repairs": 2, "repair_quota": 3, "hopeless": 1.5}, 40),
]

#: Those whose tree is the same whatever the order in which their jobs end (all that decide by rounds).
ORDER_FREE = {"zero_shot", "branch"}

cases = pytest.mark.parametrize(
    ("name", "options", "most"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)]
)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def luck(*words: object) -> float:
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


class World:
    """A search in memory. What a job comes to depends on its key (an evaluation's: on its program) and the world's
    seed, never on when it ends."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.step = 0
        self.nodes = {1: NodeView(1, None, None, "r", 0, Idea("reference"), NodeState.OPEN, None, "")}
        self.implementations: dict[int, ImplementationView] = {}
        self.jobs: dict[int, JobView] = {}
        self.ordinals: dict[tuple[JobKind, int | None], int] = {}
        self.ordinal_of: dict[int, int] = {}

    def view(self) -> TreeView:
        shown = tuple(j for j in self.jobs.values() if j.kind is not JobKind.EVALUATE or j.state is not JobState.DONE)
        return TreeView(1, self.seed, self.step, 1, dict(self.nodes), dict(self.implementations), shown)

    def apply(self, actions: list[Action], slots: int) -> None:
        """Record a decision. ``plan`` raises where it acts on what is pruned or missing, or takes too many slots."""
        for job in plan(self.view(), actions, slots):
            self._queue(JobView(0, job.kind, JobState.QUEUED, job.node, job.implementation, job.key, job.payload))
        for action in actions:
            if isinstance(action, Prune):
                assert self.nodes[action.node].state is NodeState.OPEN, "pruned twice"
                assert action.because
                self.nodes[action.node] = replace(
                    self.nodes[action.node], state=NodeState.PRUNED, pruned_because=action.because
                )
        self.step += 1

    def _queue(self, job: JobView) -> None:
        about = job.node if job.kind is JobKind.IDEATE else job.implementation
        self.ordinal_of[len(self.jobs) + 1] = self.ordinals.get((job.kind, about), 0)
        self.ordinals[job.kind, about] = self.ordinals.get((job.kind, about), 0) + 1
        self.jobs[len(self.jobs) + 1] = replace(job, id=len(self.jobs) + 1)

    def end(self, job: JobView) -> None:
        # Of implementations with the same program the first to arrive is judged for all, so that an evaluation's fate
        # must be its program's: by its key it would depend on who came first.
        judged = job.kind is JobKind.EVALUATE and job.implementation
        fate = self.implementations[judged].program if judged else job.key
        if luck(self.seed, "dies", fate) < 0.07:
            self.jobs[job.id] = replace(job, state=JobState.DEAD, reason="given up")
            return
        self.jobs[job.id] = replace(job, state=JobState.DONE)
        if job.kind is JobKind.IDEATE:
            self._ideas(job)
        elif job.kind is JobKind.EVALUATE:
            self._judge(job)
        else:
            self._program(job)

    def _ideas(self, job: JobView) -> None:
        parent = self.nodes[job.payload["parent"]]
        for index in range(int(luck(self.seed, "ideas", job.key) * (job.payload["count"] + 1))):
            id_ = len(self.nodes) + 1
            address = f"{parent.address}.{self.ordinal_of[job.id]}-{index}"
            idea = Idea(f"idea {address}")
            self.nodes[id_] = NodeView(
                id_, parent.id, job.payload["base"], address, job.payload["round"], idea, NodeState.OPEN, None, ""
            )

    def _program(self, job: JobView) -> None:
        id_ = len(self.implementations) + 1
        if job.kind is JobKind.REPAIR:
            failed = self.implementations[job.implementation or 0]
            node, address = failed.node, f"{failed.address}r{self.ordinal_of[job.id]}"
        else:
            node = job.node or 0
            address = f"{self.nodes[node].address}/{job.payload['variant']}"
        program = f"p{int(luck(self.seed, 'program', job.key) * 12)}"  # few enough that some are written twice
        same = [i for i in self.implementations.values() if i.program == program]
        found = same[0].evaluation if same else None
        self.implementations[id_] = ImplementationView(
            id_,
            node,
            address,
            job.implementation if job.kind is JobKind.REPAIR else None,
            program,
            same[0].id if same else None,
            "",
            found,
        )
        judging = {self.implementations[j.implementation or 0].program for j in self.view().in_flight(JobKind.EVALUATE)}
        if found is None and program not in judging:
            self._queue(JobView(0, JobKind.EVALUATE, JobState.QUEUED, node, id_, f"evaluate:{address}", {}))

    def _judge(self, job: JobView) -> None:
        program = self.implementations[job.implementation or 0].program
        dice = luck(self.seed, "outcome", program)
        outcome = Outcome.OK if dice < 0.6 else list(Outcome)[1 + int((dice - 0.6) / 0.4 * 7)]
        time = round(0.1 + luck(self.seed, "time", program), 3) if outcome is Outcome.OK else None
        evaluation = EvaluationView(job.id, outcome, Stage.TIME, "", Basis.PROJECTED, time, {}, {})
        for i in self.implementations.values():
            if i.program == program and i.evaluation is None:
                self.implementations[i.id] = replace(i, evaluation=evaluation)

    def tree(self) -> dict[str, Any]:
        """The tree by address: what must not depend on ids or on order."""
        base = {None: None, **{i.id: i.address for i in self.implementations.values()}}
        nodes = {n.address: (n.idea, n.round, base[n.base], n.state, n.pruned_because) for n in self.nodes.values()}
        return {"nodes": nodes, "programs": {i.address: i.program for i in self.implementations.values()}}


def decide(strategy: Strategy, world: World, slots: int) -> list[Action]:
    return list(strategy.propose(world.view(), slots, random.Random(f"{world.seed}:{world.step}")))


def grow(
    world: World, strategy: Strategy, order: random.Random, *, slots: int = 4, most: int = 500, prune: float = 0.0
) -> World:
    """Run to the end; *order* picks which job ends next, *prune* is how often a user prunes a node meanwhile."""
    for _ in range(20 * most):
        actions = decide(strategy, world, slots)
        if actions:
            world.apply(actions, slots)
        if any(isinstance(a, Stop) for a in actions):
            return world
        waiting = world.view().in_flight()
        if not waiting:
            assert actions, "nothing is asked for and nothing is under way: that means stop"
            continue
        world.end(order.choice(waiting))
        victims = [n for n in world.nodes.values() if n.parent is not None and n.state is NodeState.OPEN]
        if victims and order.random() < prune:
            chosen = order.choice(victims)
            world.nodes[chosen.id] = replace(chosen, state=NodeState.PRUNED, pruned_because="by hand")
    raise AssertionError("it does not end")


@cases
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), slots=st.integers(1, 9))
@relaxed
def test_it_ends_within_its_means(
    name: str, options: dict[str, Any], most: int, seed: int, order: random.Random, slots: int
) -> None:
    world = grow(World(seed), strategies.make(name, options), order, slots=slots, most=most)
    asked = [j for j in world.jobs.values() if j.kind is not JobKind.EVALUATE]
    assert len(asked) <= most
    assert not world.view().in_flight(), "it stopped with work under way"
    addresses = [n.address for n in world.nodes.values()] + [i.address for i in world.implementations.values()]
    assert len(set(addresses)) == len(addresses)


@cases
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
@relaxed
def test_it_leaves_pruned_nodes_alone(
    name: str, options: dict[str, Any], most: int, seed: int, order: random.Random
) -> None:
    # Work planned before a node was pruned still ends; plan() raises on anything asked for afterwards.
    grow(World(seed), strategies.make(name, options), order, most=most, prune=0.2)


@cases
@given(seed=st.integers(0, 10_000), order=st.integers(0, 10_000))
@relaxed
def test_same_seed_and_order_give_the_same_tree(
    name: str, options: dict[str, Any], most: int, seed: int, order: int
) -> None:
    one, two = (grow(World(seed), strategies.make(name, options), random.Random(order)) for _ in range(2))
    assert one.tree() == two.tree()
    assert one.view() == two.view()


@cases
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), slots=st.integers(1, 9))
@relaxed
def test_order_and_slots_change_nothing(
    name: str, options: dict[str, Any], most: int, seed: int, order: random.Random, slots: int
) -> None:
    if name not in ORDER_FREE:
        pytest.skip(f"{name} learns from results as they come")
    first = grow(World(seed), strategies.make(name, options), random.Random(0))
    other = grow(World(seed), strategies.make(name, options), order, slots=slots)
    assert first.tree() == other.tree()


@cases
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
@relaxed
def test_it_keeps_nothing_between_calls(
    name: str, options: dict[str, Any], most: int, seed: int, order: random.Random
) -> None:
    """At every point a new object, and one that has seen all before, decide the same; leased or queued is the same."""
    old, world = strategies.make(name, options), World(seed)
    while True:
        actions = decide(old, world, 3)
        assert decide(strategies.make(name, options), world, 3) == actions
        assert decide(old, world, 3) == actions, "asked again, it says something else"
        leased = World(seed)
        leased.__dict__ = {**world.__dict__, "jobs": {i: _lease(j) for i, j in world.jobs.items()}}
        assert decide(strategies.make(name, options), leased, 3) == actions
        if actions:
            world.apply(actions, 3)
        if any(isinstance(a, Stop) for a in actions):
            return
        waiting = world.view().in_flight()
        if waiting:
            world.end(order.choice(waiting))


def _lease(job: JobView) -> JobView:
    return replace(job, state=JobState.LEASED) if job.state is JobState.QUEUED else job


@cases
def test_it_draws_no_global_random_numbers(name: str, options: dict[str, Any], most: int) -> None:
    random.seed(5)
    before = random.getstate()
    grow(World(3), strategies.make(name, options), random.Random(1))
    assert random.getstate() == before


def test_every_strategy_is_in_the_suite() -> None:
    assert {name for name, _, _ in CASES} == set(strategies.names())
