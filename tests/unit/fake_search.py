"""A proposer and an evaluator that need no GPU, no kernel and no clock, for tests of the loop over the real store.

A program is a line of text that says how it will fare: ``ok 1.25 <salt>`` or ``wrong_result <salt>``. What a proposer
writes depends on the request's key and seed alone, as a recorded completion would.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

from kernelgrove import strategies
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.controller import Controller
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationRequest,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    Outcome,
    Problem,
    Stage,
    Usage,
)
from kernelgrove.ports import Proposal, ProposalRequest, SearchSpec
from kernelgrove.storage.store import SqliteStore, open_store

SOURCE = "class Model: pass\n"
PROBLEM = Problem("toy", SOURCE)
INSTANCE = Instance("toy", PROBLEM.digest, "full", SOURCE, "small", SOURCE)
DEVICE = Device("cpu", "H100", "cpu->H100", Basis.PROJECTED)


def spec(**changed: Any) -> SearchSpec:
    fields: dict[str, Any] = {
        "problem": PROBLEM,
        "instance": INSTANCE,
        "device": DEVICE,
        "strategy": "branch",
        "strategy_options": {},
        "models": ("fake",),
        "seed": 7,
    }
    return SearchSpec(**{**fields, **changed})


#: Options of ``branch`` for a tree of three nodes.
SMALL = {"rounds": 2, "widths": 2, "depths": 2, "together": True}


def dice(*words: object) -> float:
    """A number in [0, 1) that depends on the words alone."""
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64


class FakeProposer:
    """Programs and ideas by key. ``failing`` is the share of programs that will be wrong."""

    def __init__(
        self,
        name: str = "fake",
        *,
        failing: float = 0.3,
        ideas: int | None = None,
        usage: Usage | None = None,
        delay: Callable[[ProposalRequest], float] = lambda request: 0.0,
        raises: Callable[[ProposalRequest], Exception | None] = lambda request: None,
    ) -> None:
        self.name = name
        self.failing = failing
        self.ideas = ideas
        self.usage = usage or Usage()
        self.delay = delay
        self.raises = raises
        self.asked: list[ProposalRequest] = []
        self._lock = threading.Lock()

    def propose(self, request: ProposalRequest) -> Proposal:
        with self._lock:
            self.asked.append(request)
        time.sleep(self.delay(request))
        error = self.raises(request)
        if error is not None:
            raise error
        if request.kind is JobKind.IDEATE:
            count = request.count if self.ideas is None else min(self.ideas, request.count)
            ideas = tuple(Idea(f"idea {n} for {request.key}", "because", "tiling") for n in range(count))
            return Proposal(ideas=ideas, usage=self.usage)
        luck = dice(request.seed, request.key)
        if luck < self.failing:
            code = f"wrong_result {request.key}"
        else:
            code = f"ok {0.5 + dice('time', request.key):.6f} {request.key}"
        return Proposal(code=f"# comment\n'{code}'", usage=self.usage)


class FakeEvaluator:
    """Reads a program's fate off its text; counts how many it judges at once."""

    def __init__(
        self,
        *,
        parallel: int = 2,
        delay: Callable[[EvaluationRequest], float] = lambda request: 0.0,
        raises: Callable[[int], Exception | None] = lambda number: None,
        device: Device = DEVICE,
    ) -> None:
        self.parallel = parallel
        self.delay = delay
        self.raises = raises
        self.judged: list[str] = []
        self.at_once = self.most_at_once = self.calls = 0
        self.closed = False
        self._device = device
        self._lock = threading.Lock()

    def device(self) -> Device:
        return self._device

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        return INSTANCE

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        with self._lock:
            self.calls += 1
            number = self.calls
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.delay(request))
            error = self.raises(number)
            if error is not None:
                raise error
            self.judged.append(request.code)
            fate = request.code.split("'")[1].split()
            if fate[0] != "ok":
                return EvaluationResult(Outcome(fate[0]), Stage.CHECK, "element 3 differs", basis=Basis.PROJECTED)
            return EvaluationResult(
                Outcome.OK,
                Stage.TIME,
                basis=Basis.PROJECTED,
                time_ms=float(fate[1]),
                baselines={"eager": 2.0, "compile": None},
                speedup={"eager": 2.0 / float(fate[1]), "compile": None},
            )
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self) -> None:
        self.closed = True


def controller(
    store: SqliteStore,
    proposer: Any = None,
    evaluator: Any = None,
    *,
    search: int | None = None,
    strategy: Any = None,
    budget: Budget = Budget(),  # noqa: B008 (frozen)
    **more: Any,
) -> Controller:
    search = search or store.create_search(spec(), ROOT_IDEA)
    proposers = proposer if isinstance(proposer, list) else [proposer or FakeProposer()]
    return Controller(
        store,
        search,
        strategy or strategies.make("branch", SMALL),
        proposers,
        evaluator or FakeEvaluator(),
        budget,
        more.pop("events", lambda event: None),
        **more,
    )


def run_in_another_process(db: str, search: int, started: Any, ended: Any) -> None:
    """What a process does that runs *search*: the events *started* and a queue *ended* speak to its parent."""
    with open_store(db) as store:
        store.search(search)
        proposer = FakeProposer(delay=lambda request: 0.03 * dice("ask", request.key))
        evaluator = FakeEvaluator(delay=lambda request: 0.05 * dice("judge", request.code))
        strategy = strategies.make("branch", {"rounds": 3, "widths": 2, "depths": 2, "together": True})
        run = Controller(store, search, strategy, [proposer], evaluator, Budget())
        started.set()
        ended.send(str(run.run()))
