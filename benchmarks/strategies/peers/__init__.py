"""Policies of other packages, asked through their own code, with the simulator as what carries out and judges.

A peer says which program to build on (and which others to show); a call then writes a new program from it, as these
packages do: one call a program, no idea apart. A parent that failed is a repair with its error text. Everything else
is as for ours: the same proposer (told what was tried), calls and evaluations at once, budgets, and no program is
judged twice.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kernelgrove.strategies.fold import squash

from .. import suite
from ..landscape import Asked, Judged, Landscape, Program
from ..simulator import Limits, Trace


@dataclass(frozen=True)
class Member:
    """A program that was judged: ``score`` is the squashed log-speedup (0 where it failed), ``speedup`` over the
    reference, ``repairs`` how many led to it in a row."""

    program: Program
    score: float
    speedup: float
    repairs: int = 0

    @property
    def ok(self) -> bool:
        return self.program.fault is None


@dataclass(frozen=True)
class Request:
    """Build on *parent* (None: from the reference); *others* are shown beside it. *ticket* is the policy's own."""

    ticket: Any
    parent: Member | None
    others: tuple[Member, ...] = ()


class Policy(Protocol):
    """A peer. ``ask`` None means: wait for what is under way."""

    def ask(self) -> Request | None: ...

    def tell(self, request: Request, child: Member) -> None: ...


#: name -> (distribution on PyPI, module with a ``make(seed, landscape)``)
PEERS: Mapping[str, tuple[str, str]] = {
    "treequest AB-MCTS-A": ("treequest", "benchmarks.strategies.peers.abmcts"),
    "shinkaevolve": ("shinka-evolve", "benchmarks.strategies.peers.shinka"),
    "openevolve": ("openevolve", "benchmarks.strategies.peers.open_evolve"),
}


@dataclass
class _Call:
    request: Request
    program: Program | None = None
    judged: Judged | None = None


@dataclass
class Pursuit:
    """One search by a peer's policy, in virtual time."""

    policy: Policy
    land: Landscape
    seed: int
    limits: Limits
    trace: Trace = field(default_factory=Trace)

    def __post_init__(self) -> None:
        self.events: list[tuple[float, int, _Call]] = []
        self.queue: deque[_Call] = deque()
        self.known: dict[str, Judged] = {}
        self.asked_again: dict[str, list[_Call]] = {}
        self.here: dict[str, Counter[str]] = {}
        self.anywhere: Counter[str] = Counter()
        self.now, self.usd, self.count = 0.0, 0.0, 0
        self.calling = self.judging = 0
        self.held: tuple[float, Program] | None = None

    def run(self) -> Trace:
        while True:
            self._ask()
            while self.queue and self.judging < self.limits.judged_at_once:
                self._judge(self.queue.popleft())
            if not self.events:
                break
            self.now, _, call = heapq.heappop(self.events)
            if call.judged is None:
                self.calling -= 1
                self._written(call)
            else:
                self.judging -= 1
                self._judged(call)
        self.trace.seconds, self.trace.stopped = self.now, "budget"
        return self.trace

    def _ask(self) -> None:
        under_way = self.calling + self.judging + len(self.queue)
        while (
            self.calling < self.limits.calls_at_once
            and len(self.trace.held_ms) + under_way < self.limits.evaluations
            and len(self.queue) < 2 * self.limits.judged_at_once
            and self.trace.calls < self.limits.calls
        ):
            request = self.policy.ask()
            if request is None:
                return
            self.trace.calls += 1
            self.calling += 1
            under_way += 1
            rng = random.Random(f"{self.seed} call {self.trace.calls}")
            seconds, program = self._call(request, rng)
            self._push(seconds, _Call(request, program))

    def _push(self, seconds: float, call: _Call) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, call))

    def _call(self, request: Request, rng: random.Random) -> tuple[float, Program | None]:
        land, parent = self.land, request.parent
        who = land.proposers[rng.randrange(len(land.proposers))]
        kind = "repair" if parent is not None and not parent.ok else "implement"
        self.usd += land.usd(kind, who)
        seconds = land.seconds(kind, rng)
        if parent is None:
            return seconds, land.translate(rng, who)
        if not parent.ok:
            return seconds, land.repair(parent.program, parent.repairs, rng, who)
        key = parent.program.key
        others = tuple(m.program for m in request.others if m.ok)
        asked = Asked(parent.program, 1, self.here.get(key, {}), self.anywhere, others, suite.GRAFT_SHOWN)
        ideas = land.ideas(asked, rng, who)
        if not ideas:
            return seconds, None
        self.here.setdefault(key, Counter())[ideas[0].about] += 1
        self.anywhere[ideas[0].about] += 1
        return seconds, land.carry_out(ideas[0], rng, who)

    def _written(self, call: _Call) -> None:
        if call.program is None:
            return  # nothing came of the call; its policy is not told, as its package would not be
        key = call.program.key
        if key in self.known:
            self._tell(call, self.known[key])
        elif key in self.asked_again:
            self.asked_again[key].append(call)
        else:
            self.asked_again[key] = []
            self.queue.append(call)

    def _judge(self, call: _Call) -> None:
        assert call.program is not None
        rng = random.Random(f"{self.seed} judged {call.program.key}")
        best = self.held[0] if self.held else None
        call.judged = self.land.judge(call.program, best, rng)
        self.judging += 1
        self._push(call.judged.seconds, call)

    def _judged(self, call: _Call) -> None:
        assert call.program is not None and call.judged is not None
        self.known[call.program.key] = call.judged
        self.trace.outcomes[call.judged.outcome.value] += 1
        time = call.judged.time_ms
        if time is not None and (self.held is None or time < self.held[0]):
            self.held = (time, call.program)
        self.trace.held_ms.append(self.land.time_ms(self.held[1]) if self.held else self.land.naive_ms)
        self.trace.usd.append(self.usd)
        for waiting in [call, *self.asked_again.pop(call.program.key, [])]:
            self._tell(waiting, call.judged)

    def _tell(self, call: _Call, judged: Judged) -> None:
        assert call.program is not None
        speedup = self.land.reference_ms / judged.time_ms if judged.time_ms else 0.0
        score = squash(math.log(speedup)) if speedup else 0.0
        before = call.request.parent
        repairs = before.repairs + 1 if before is not None and not before.ok else 0
        self.policy.tell(call.request, Member(call.program, score, speedup, repairs))


def pursue(make: Callable[[int, Landscape], Policy], landscape: Landscape, seed: int, limits: Limits) -> Trace:
    """One search by the policy that *make* gives, to the end of its budget."""
    return Pursuit(make(seed, landscape), landscape, seed, limits).run()
