"""Snapshots that are made from the last one are what a store that knows nothing yet would give."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    JobState,
    NodeState,
    Outcome,
    Problem,
    Prune,
    Stage,
)
from kernelgrove.ports import CodeResult, EvaluatedResult, IdeasResult, Job, PlannedJob, RatedResult, SearchSpec
from kernelgrove.storage import SqliteStore, open_store
from kernelgrove.storage.care.control import retry
from kernelgrove.storage.lazy import JsonObject

PROBLEM = Problem("p", "class Model: ...\n")
INSTANCE = Instance("p", PROBLEM.digest, "full", "x", "full", "x")
GPU = Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED)
SPEC = SearchSpec(PROBLEM, INSTANCE, GPU, "branch", {}, ("rules",), 3)


class Life:
    """A search in which anything may happen next; each step goes through one of two processes' stores."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.stores = [open_store(path, create=True), open_store(path)]
        self.searches = [self.stores[0].create_search(SPEC, Idea("root")) for _ in range(2)]
        self.number = 0

    @property
    def store(self) -> SqliteStore:
        return self.chance.choice(self.stores)

    def step(self) -> None:
        search = self.chance.choice(self.searches)
        view = self.stores[0].tree(search)
        nodes = [node for node in view.nodes.values() if node.state is NodeState.OPEN]
        self.number += 1
        match self.chance.randrange(16):
            case 0 | 1:
                parent = self.chance.choice(nodes).id
                self.plan(search, PlannedJob(JobKind.IDEATE, f"ideate:{self.number}", {"parent": parent, "round": 1}))
            case 2:
                node = self.chance.choice(nodes).id
                payload = {"node": node, "variant": self.number}
                self.plan(search, PlannedJob(JobKind.IMPLEMENT, f"implement:{self.number}", payload, node=node))
            case 3 if len(nodes) > 3:
                pruned = self.chance.choice(nodes[1:]).id
                self.store.record(search, view.step, [Prune(pruned, "slow")], [])
            case 4:
                rated = [node.id for node in nodes[:3]]
                self.plan(search, PlannedJob(JobKind.RATE, f"rate:{self.number}", {"nodes": rated}))
            case 5 if view.implementations:
                made = self.chance.choice(list(view.implementations.values()))
                kind = self.chance.choice([JobKind.EVALUATE, JobKind.REPAIR])
                payload = {"implementation": made.id}
                self.plan(search, PlannedJob(kind, f"{kind}:{self.number}", payload, made.node, made.id))
            case 6 if self.chance.random() < 0.2:
                retry(self.store, search)
            case _:
                self.work()

    def plan(self, search: int, job: PlannedJob) -> None:
        store = self.store
        store.record(search, store.tree(search).step, [], [job])

    def work(self) -> None:
        store = self.store
        job = store.claim(None, f"owner {self.number}", list(JobKind), self.chance.choice([0.0, 60.0]))
        if job is None:
            return
        if self.chance.random() < 0.3:
            store.fail(job, "why", self.chance.random() < 0.9)
        elif self.chance.random() < 0.8:
            store.finish(job, self.result(job))

    def result(self, job: Job) -> IdeasResult | CodeResult | EvaluatedResult | RatedResult:
        if job.kind is JobKind.IDEATE:
            return IdeasResult(tuple(Idea(f"idea {self.number}.{n}") for n in range(self.chance.randrange(3))), "rules")
        if job.kind is JobKind.RATE:
            return RatedResult({node: self.chance.random() for node in job.payload["nodes"]}, "rules")
        if job.kind is not JobKind.EVALUATE:
            return CodeResult(f"x = {self.chance.randrange(8)}", "rules")
        time_ms = 0.1 + self.chance.random()
        passed = EvaluationResult(
            Outcome.OK,
            Stage.TIME,
            time_ms=time_ms,
            time_interval=(time_ms, 2 * time_ms),
            timing=self.chance.choice(["screened", "sealed"]),
            baselines={"eager": 1.0, "compile": None},
            speedup={"eager": 1.0 / time_ms, "compile": None},
        )
        if self.chance.random() < 0.3:
            passed = replace(passed, outcome=Outcome.TIMEOUT, stage=Stage.RUN, message="too slow")
        return EvaluatedResult(passed, GPU)


@pytest.fixture(params=range(3))
def life(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path / "grove.db", request.param)
    yield made
    for store in made.stores:
        store.close()


def test_a_snapshot_from_the_last_one_is_what_a_new_store_gives(life: Life) -> None:
    seen = set()
    for _ in range(25):
        for _ in range(25):
            life.step()
        with open_store(life.path) as fresh:
            for search in life.searches:
                whole = fresh.tree(search)
                assert all(store.tree(search) == whole for store in life.stores)
                assert list(life.stores[1].tree(search).jobs) == sorted(whole.jobs, key=lambda job: job.id)
                seen |= {str(job.state) for job in whole.jobs}
                seen |= {"measured again" for made in whole.implementations.values() if len(made.remeasured) > 1}
                seen |= {str(node.state) for node in whole.nodes.values()}
                seen |= {"rated" for node in whole.nodes.values() if node.rating is not None}
    assert seen >= {*map(str, JobState), *map(str, NodeState), "measured again", "rated"}


def test_where_nothing_has_changed_the_snapshot_is_the_same_one(life: Life) -> None:
    for _ in range(40):
        life.step()
    store, search = life.stores[0], life.searches[0]
    view = store.tree(search)
    assert store.tree(search) is view
    life.plan(search, PlannedJob(JobKind.IDEATE, "one more", {"parent": view.root}))
    now = store.tree(search)
    assert now is not view and now.nodes is view.nodes and now.implementations is view.implementations


def test_json_is_decoded_when_it_is_looked_into() -> None:
    value = JsonObject('{"eager": 1.5, "compile": null}')
    same = {"eager": 1.5, "compile": None}
    assert value == same and same == value
    assert value.get("eager") == 1.5 and value.get("other", 7) == 7 and "compile" in value and len(value) == 2
    assert dict(value) == {"eager": 1.5, "compile": None} and repr(value) == "{'eager': 1.5, 'compile': None}"
    with pytest.raises(TypeError):
        value["eager"] = 2.0  # type: ignore[index]
