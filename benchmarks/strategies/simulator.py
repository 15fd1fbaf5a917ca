"""A search in memory over a landscape: the real strategy, decisions, plans, budgets and duplicates; virtual time.

``simulate`` does what ``engine.controller`` does, without a store: proposer calls and evaluations run at once up to the
suite's limits, take the seconds that the landscape says, and end in that order. What a job comes to is drawn from a
generator seeded by the landscape's seed and the job's key, when it is started, so that it does not depend on the order.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kernelgrove.engine.budget import Budget, Spent
from kernelgrove.engine.planning import capacity, decide, plan
from kernelgrove.model import (
    EvaluationView,
    Idea,
    ImplementationView,
    JobKind,
    JobState,
    JobView,
    NodeState,
    NodeView,
    Prune,
    Stage,
    Stop,
    TreeView,
    speaking,
)
from kernelgrove.ports import PlannedJob, Strategy

from . import suite
from .landscape import Asked, Judged, Landscape, Named, Program

_ROOT = Idea("the reference, translated as it stands", "", "reference")


@dataclass(frozen=True)
class Limits:
    """What a search may use, the same for every contender."""

    evaluations: int
    calls_at_once: int = suite.CALLS_AT_ONCE
    judged_at_once: int = suite.JUDGED_AT_ONCE

    @property
    def calls(self) -> int:
        return self.evaluations * suite.CALLS_PER_EVALUATION


@dataclass
class Trace:
    """What a search came to. After evaluation k, from 1: ``held_ms[k - 1]`` is the true time of the program that it
    held for the best, ``usd[k - 1]`` the dollars spent by then."""

    held_ms: list[float] = field(default_factory=list)
    usd: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    decisions: int = 0
    again: int = 0
    seconds: float = 0.0
    stopped: str = ""


class World:
    """The tree and its jobs, as a store would show them, with what the landscape knows of each beside."""

    def __init__(self, landscape: Landscape, seed: int) -> None:
        self.land, self.seed = landscape, seed
        self.step = 0
        self.nodes: dict[int, NodeView] = {1: NodeView(1, None, None, "r", 0, _ROOT, NodeState.OPEN, None, "")}
        self.implementations: dict[int, ImplementationView] = {}
        self.jobs: dict[int, JobView] = {}  # as a snapshot shows them: no evaluations that are done
        self.named: dict[int, Named] = {}  # by node
        self.programs: dict[int, Program] = {}  # by implementation
        self.same: dict[str, list[int]] = {}  # the implementations with a program, first one first
        self.measured: dict[str, list[EvaluationView]] = {}
        self.here: dict[str, Counter[str]] = {}
        self.anywhere: Counter[str] = Counter()
        self.waiting_calls: deque[JobView] = deque()
        self.waiting_judging: deque[JobView] = deque()
        self.held: int | None = None
        self.usd = 0.0
        self._ordinals: Counter[tuple[JobKind, int | None]] = Counter()
        self._ordinal: dict[int, int] = {}
        self._next = 0

    def view(self) -> TreeView:
        return TreeView(
            1,
            self.seed,
            self.step,
            1,
            MappingProxyType(self.nodes),
            MappingProxyType(self.implementations),
            tuple(self.jobs.values()),
        )

    def record(self, actions: list[Any], jobs: list[PlannedJob]) -> None:
        for action in actions:
            if isinstance(action, Prune):
                node = self.nodes[action.node]
                if node.state is NodeState.OPEN:
                    self.nodes[node.id] = NodeView(
                        *(node.id, node.parent, node.base, node.address, node.round, node.idea),
                        *(NodeState.PRUNED, action.because, node.model, node.rating),
                    )
        for job in jobs:
            self._queue(job.kind, job.node, job.implementation, job.key, job.payload)
        self.step += 1

    def _queue(self, kind: JobKind, node: int | None, implementation: int | None, key: str, payload: Any) -> None:
        self._next += 1
        about = (kind, node if kind is JobKind.IDEATE else implementation)
        self._ordinal[self._next] = self._ordinals[about]
        self._ordinals[about] += 1
        job = JobView(self._next, kind, JobState.QUEUED, node, implementation, key, payload)
        self.jobs[job.id] = job
        (self.waiting_judging if kind is JobKind.EVALUATE else self.waiting_calls).append(job)

    # ----------------------------------------------------------------------------------------------- starting

    def start(self, job: JobView) -> tuple[float, Any]:
        """Seconds that *job* takes and what it comes to (None: nothing came of it). Its dollars are spent now."""
        rng = random.Random(f"{self.seed} {job.key}")
        if job.kind is JobKind.EVALUATE:
            # What allocation.time_to_beat says, which is the time of what is held.
            best = None if job.payload.get("again") or self.held is None else self.implementations[self.held].time_ms
            judged = self.land.judge(self.programs[job.implementation or 0], best, rng)
            return judged.seconds, judged
        # Variants of one idea go round the proposers, as in engine.calls.assign.
        place, variant = (job.node, job.payload["variant"]) if job.kind is JobKind.IMPLEMENT else (job.key, 0)
        known = self.nodes[place].address if isinstance(place, int) else str(place)
        who = self.land.proposers[(zlib.crc32(known.encode()) + variant) % len(self.land.proposers)]
        count = len(job.payload["nodes"]) if job.kind is JobKind.RATE else int(job.payload.get("count", 1))
        self.usd += self.land.usd(job.kind.value, who, count)
        return self.land.seconds(job.kind.value, rng), _CALLS[job.kind](self, job, rng, who)

    def _ideate(self, job: JobView, rng: random.Random, who: str) -> Any:
        parent, base = self.nodes[job.payload["parent"]], job.payload["base"]
        program = self.programs[base] if base is not None else None
        # A request under an idea that has no code yet, for the same base, thinks further on it.
        thought = parent.id != 1 and parent.base == base and not (base and self.implementations[base].node == parent.id)
        asked = Asked(
            program,
            int(job.payload["count"]),
            self.here.get(program.key if program else "-", {}),
            self.anywhere,
            tuple(self.programs[other] for other in job.payload.get("others", ())),
            suite.GRAFT_ASKED if job.payload.get("others") else 0.0,
            self.named[parent.id] if thought else None,
        )
        found = self.land.ideas(asked, rng, who)
        told = self.here.setdefault(program.key if program else "-", Counter())
        for idea in found:
            told[idea.about] += 1
            self.anywhere[idea.about] += 1
        return found

    def _implement(self, job: JobView, rng: random.Random, who: str) -> Any:
        return (
            self.land.translate(rng, who) if job.node == 1 else self.land.carry_out(self.named[job.node or 0], rng, who)
        )

    def _repair(self, job: JobView, rng: random.Random, who: str) -> Any:
        failed = self.implementations[job.implementation or 0]
        before, at = 0, failed
        while at.repair_of is not None:
            before, at = before + 1, self.implementations[at.repair_of]
        return self.land.repair(self.programs[failed.id], before, rng, who)

    def _rate(self, job: JobView, rng: random.Random, who: str) -> Any:
        return self.land.rate([self.named[n] for n in job.payload["nodes"]], rng, who)

    # ------------------------------------------------------------------------------------------------- ending

    def end(self, job: JobView, found: Any) -> None:
        if job.kind is JobKind.EVALUATE:
            del self.jobs[job.id]
            self._judged(job, found)
            return
        done = bool(found) or (job.kind is JobKind.IDEATE and found is not None)
        state, reason = (JobState.DONE, None) if done else (JobState.FAILED, "nothing came of it")
        self.jobs[job.id] = JobView(
            *(job.id, job.kind, state, job.node, job.implementation, job.key, job.payload, reason)
        )
        if not done:
            return
        if job.kind is JobKind.IDEATE:
            self._ideas(job, found)
        elif job.kind is JobKind.RATE:
            for node, rating in zip(job.payload["nodes"], found, strict=True):
                n = self.nodes[node]
                self.nodes[node] = NodeView(
                    *(n.id, n.parent, n.base, n.address, n.round, n.idea, n.state, n.pruned_because, n.model, rating)
                )
        else:
            self._written(job, found)

    def _ideas(self, job: JobView, found: list[Named]) -> None:
        parent = self.nodes[job.payload["parent"]]
        for index, idea in enumerate(found):
            id_ = len(self.nodes) + 1
            address = f"{parent.address}.{self._ordinal[job.id]}-{index}"
            self.nodes[id_] = NodeView(
                *(id_, parent.id, job.payload["base"], address, job.payload["round"]),
                *(Idea(idea.text, "", idea.category), NodeState.OPEN, None, ""),
            )
            self.named[id_] = idea

    def _written(self, job: JobView, program: Program) -> None:
        id_ = len(self.implementations) + 1
        if job.kind is JobKind.REPAIR:
            failed = self.implementations[job.implementation or 0]
            node, address, repair_of = failed.node, f"{failed.address}r{self._ordinal[job.id]}", failed.id
        else:
            node, repair_of = job.node or 0, None
            address = f"{self.nodes[node].address}/{job.payload['variant']}"
        key = program.key
        same = self.same.setdefault(key, [])
        first = same[0] if same else id_
        same.append(id_)
        known = self.implementations[first].evaluation if first != id_ else None
        again = self.implementations[first].remeasured if first != id_ else ()
        self.implementations[id_] = ImplementationView(
            *(id_, node, address, repair_of, key, None if first == id_ else first, "", known, again)
        )
        self.programs[id_] = program
        if first == id_:
            self._queue(JobKind.EVALUATE, node, id_, f"evaluate:{address}", {"program": key})

    def _judged(self, job: JobView, judged: Judged) -> None:
        program = self.implementations[job.implementation or 0].program
        self._next += 1
        found = EvaluationView(
            *(self._next, judged.outcome, Stage.TIME, "", self.land.basis, judged.time_ms),
            *({"eager": self.land.reference_ms}, {}, judged.interval, judged.timing),
        )
        known = self.measured.setdefault(program, [])
        known.append(found)
        speaks = speaking(known)
        others = tuple(e for e in known if e is not speaks)
        for id_ in self.same[program]:
            self._evaluated(id_, speaks, others)
        self._hold(self.same[program][0])

    def _evaluated(self, id_: int, speaks: EvaluationView, others: tuple[EvaluationView, ...]) -> None:
        i = self.implementations[id_]
        self.implementations[id_] = ImplementationView(
            *(i.id, i.node, i.address, i.repair_of, i.program, i.duplicate_of, i.model, speaks, others)
        )

    def _hold(self, judged: int) -> None:
        """The program that the search would be stopped with: the fastest by what speaks for it."""
        if self.held is not None and judged != self.held:
            mine, its = self.implementations[judged], self.implementations[self.held]
            if mine.ok and (mine.time_ms or 0.0) < (its.time_ms or 0.0):
                self.held = judged
            return
        passed = [i for i in self.implementations.values() if i.ok and i.duplicate_of is None]
        self.held = min(passed, key=lambda i: (i.time_ms, i.id)).id if passed else None

    def held_ms(self) -> float:
        return self.land.naive_ms if self.held is None else self.land.time_ms(self.programs[self.held])


_CALLS: dict[JobKind, Callable[[World, JobView, random.Random, str], Any]] = {
    JobKind.IDEATE: World._ideate,
    JobKind.IMPLEMENT: World._implement,
    JobKind.REPAIR: World._repair,
    JobKind.RATE: World._rate,
}


def simulate(strategy: Strategy, landscape: Landscape, seed: int, limits: Limits) -> Trace:
    """One search to its end: the strategy's, or a limit's."""
    return Search(strategy, World(landscape, seed), limits).run()


class Search:
    def __init__(self, strategy: Strategy, world: World, limits: Limits) -> None:
        self.strategy, self.world, self.limits = strategy, world, limits
        self.budget = Budget(evaluations=limits.evaluations)
        self.trace = Trace()
        self.events: list[tuple[float, int, JobView, Any]] = []
        self.now = 0.0
        self.calls_running = self.judging = 0
        self.stopping = False

    def run(self) -> Trace:
        while True:
            if not self.stopping:
                self._decide()
            self._start()
            if not self.events:
                break
            self._next_event()
        self.trace.seconds = self.now
        self.trace.stopped = self.trace.stopped or "budget"
        return self.trace

    def _decide(self) -> None:
        world, trace = self.world, self.trace
        view = world.view()
        pending = len(world.waiting_calls) + len(world.waiting_judging) + len(self.events)
        spent = Spent(evaluations=len(trace.held_ms), pending=pending)
        slots = self.budget.slots_left(spent, capacity(view, self.limits.calls_at_once, self.limits.judged_at_once))
        slots = min(slots, self.limits.calls - trace.calls)
        if slots <= 0:
            return
        actions = decide(self.strategy, view, slots, random.Random(f"{world.seed} step {world.step}"))
        trace.decisions += 1
        if not actions:
            if not pending:
                self.stopping, trace.stopped = True, "the strategy asks for nothing more"
            return
        world.record(actions, plan(view, actions, slots))
        stop = next((a for a in actions if isinstance(a, Stop)), None)
        if stop is not None:
            self.stopping, trace.stopped = True, stop.because

    def _start(self) -> None:
        world = self.world
        if self.stopping:
            return
        while world.waiting_calls and self.calls_running < self.limits.calls_at_once:
            self._begin(world.waiting_calls.popleft())
            self.calls_running += 1
            self.trace.calls += 1
        while world.waiting_judging and self.judging < self.limits.judged_at_once:
            job = world.waiting_judging.popleft()
            self.trace.again += bool(job.payload.get("again"))
            self._begin(job)
            self.judging += 1

    def _begin(self, job: JobView) -> None:
        seconds, found = self.world.start(job)
        heapq.heappush(self.events, (self.now + seconds, job.id, job, found))

    def _next_event(self) -> None:
        self.now, _, job, found = heapq.heappop(self.events)
        self.world.end(job, found)
        if job.kind is JobKind.EVALUATE:
            self.judging -= 1
            self.trace.outcomes[found.outcome.value] += 1
            self.trace.held_ms.append(self.world.held_ms())
            self.trace.usd.append(self.world.usd)
        else:
            self.calls_running -= 1
