"""A search in memory for the strategy contract: no store, no clock, jobs that end in any order, or not at all.

What a job comes to depends on its key (an evaluation's: on its program) and the world's seed, never on when it ends.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import Any

from kernelgrove.engine.planning import decide, plan
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
    speaking,
)
from kernelgrove.ports import Strategy


def luck(*words: object) -> float:
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


class World:
    """*measured*: times have intervals and differ when taken again; else they are exact. *rates*: the share of
    requests for ratings that are answered; *dry*: how often a request for ideas brings none at all."""

    def __init__(self, seed: int, *, measured: bool = False, rates: float = 0.7, dry: float = 0.1) -> None:
        self.seed = seed
        self.measured, self.rates, self.dry = measured, rates, dry
        self.step = 0
        self.nodes = {1: NodeView(1, None, None, "r", 0, Idea("reference"), NodeState.OPEN, None, "")}
        self.implementations: dict[int, ImplementationView] = {}
        self.jobs: dict[int, JobView] = {}
        self.evaluations: dict[str, list[EvaluationView]] = {}
        self.ordinals: dict[tuple[JobKind, int | None], int] = {}
        self.ordinal_of: dict[int, int] = {}
        self.pruned_at: dict[int, int] = {}

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
                self.prune(action.node, action.because)
        self.step += 1

    def prune(self, node: int, because: str) -> None:
        self.pruned_at[node] = len(self.jobs)
        self.nodes[node] = replace(self.nodes[node], state=NodeState.PRUNED, pruned_because=because)

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
        if luck(self.seed, "dies", fate, bool(job.payload.get("again"))) < 0.07:
            self.jobs[job.id] = replace(job, state=JobState.DEAD, reason="given up")
            return
        self.jobs[job.id] = replace(job, state=JobState.DONE)
        if job.kind is JobKind.IDEATE:
            self._ideas(job)
        elif job.kind is JobKind.EVALUATE:
            self._judge(job)
        elif job.kind is JobKind.RATE:
            self._rate(job)
        else:
            self._program(job)

    def _ideas(self, job: JobView) -> None:
        parent = self.nodes[job.payload["parent"]]
        some = luck(self.seed, "dry", job.key) >= self.dry
        for index in range(some * max(1, int(luck(self.seed, "ideas", job.key) * (job.payload["count"] + 1)))):
            id_ = len(self.nodes) + 1
            address = f"{parent.address}.{self.ordinal_of[job.id]}-{index}"
            idea = Idea(f"thought {int(luck(self.seed, 'idea', job.key, index) * 40)} of many, in its own words")
            self.nodes[id_] = NodeView(
                id_, parent.id, job.payload["base"], address, job.payload["round"], idea, NodeState.OPEN, None, ""
            )

    def _rate(self, job: JobView) -> None:
        if luck(self.seed, "rates", job.key) >= self.rates:
            self.jobs[job.id] = replace(job, state=JobState.FAILED, reason="does not rate")
            return
        for node in job.payload["nodes"]:
            rating = luck(self.seed, "rating", self.nodes[node].address)
            self.nodes[node] = replace(self.nodes[node], rating=rating)

    def _program(self, job: JobView) -> None:
        id_ = len(self.implementations) + 1
        if job.kind is JobKind.REPAIR:
            failed = self.implementations[job.implementation or 0]
            node, address = failed.node, f"{failed.address}r{self.ordinal_of[job.id]}"
        else:
            node = job.node or 0
            address = f"{self.nodes[node].address}/{job.payload['variant']}"
        program = f"p{int(luck(self.seed, 'program', job.key) * 60)}"  # few enough that some are written twice
        same = [i for i in self.implementations.values() if i.program == program]
        self.implementations[id_] = ImplementationView(
            *(id_, node, address, job.implementation if job.kind is JobKind.REPAIR else None),
            *(program, same[0].id if same else None, "", same[0].evaluation if same else None),
            remeasured=same[0].remeasured if same else (),
        )
        judging = {self.implementations[j.implementation or 0].program for j in self.view().in_flight(JobKind.EVALUATE)}
        if self.implementations[id_].evaluation is None and program not in judging:
            self._queue(JobView(0, JobKind.EVALUATE, JobState.QUEUED, node, id_, f"evaluate:{address}", {}))

    def _judge(self, job: JobView) -> None:
        program = self.implementations[job.implementation or 0].program
        before = self.evaluations.setdefault(program, [])
        dice = luck(self.seed, "outcome", program)
        outcome = Outcome.OK if dice < 0.6 else list(Outcome)[1 + int((dice - 0.6) / 0.4 * 7)]
        time, interval, timing, basis = None, None, None, Basis.PROJECTED
        if outcome is Outcome.OK:
            time = round(0.1 + luck(self.seed, "time", program), 3)
            if self.measured:
                basis, timing = Basis.MEASURED, "sealed"
                time *= 1 + 0.02 * luck(self.seed, "again", program, len(before))
                interval = (time * 0.99, time * 1.01)
        before.append(EvaluationView(job.id, outcome, Stage.TIME, "", basis, time, {}, {}, interval, timing))
        speaks = speaking(before)
        others = tuple(e for e in before if e is not speaks)
        for i in self.implementations.values():
            if i.program == program:
                self.implementations[i.id] = replace(i, evaluation=speaks, remeasured=others)

    def tree(self) -> dict[str, Any]:
        """The tree by address: what must not depend on ids or on order."""
        base = {None: None, **{i.id: i.address for i in self.implementations.values()}}
        nodes = {n.address: (n.idea, n.round, base[n.base], n.state, n.pruned_because) for n in self.nodes.values()}
        return {"nodes": nodes, "programs": {i.address: i.program for i in self.implementations.values()}}

    def check(self) -> None:
        """A valid tree: addresses are places, what is built on came first, no idea is asked for twice."""
        addresses = [n.address for n in self.nodes.values()] + [i.address for i in self.implementations.values()]
        assert len(set(addresses)) == len(addresses)
        for node in self.nodes.values():
            if node.parent is not None:
                assert node.parent < node.id and node.address.startswith(self.nodes[node.parent].address)
                assert node.base is None or node.base in self.implementations
        for i in self.implementations.values():
            assert i.repair_of is None or self.implementations[i.repair_of].node == i.node
        judging = [j for j in self.jobs.values() if j.kind is JobKind.EVALUATE and "again" not in j.payload]
        once = [self.implementations[j.implementation or 0].program for j in judging if j.state is not JobState.DEAD]
        assert len(set(once)) == len(once), "a program was judged twice"


def choose(strategy: Strategy, world: World, slots: int) -> list[Action]:
    """What the controller would record."""
    return decide(strategy, world.view(), slots, random.Random(f"{world.seed}:{world.step}"))


def grow(
    world: World,
    strategy: Strategy,
    order: random.Random,
    *,
    slots: int = 4,
    most: int = 500,
    prune: float = 0.0,
    jobs: int | None = None,
) -> World:
    """Run to the end, or until there are so many *jobs*; *order* picks which job ends next, *prune* is how often a
    user prunes a node meanwhile."""
    for _ in range(20 * most):
        if jobs is not None and len(world.jobs) >= jobs:
            return world
        actions = choose(strategy, world, slots)
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
            world.prune(order.choice(victims).id, "by hand")
    raise AssertionError("it does not end")
