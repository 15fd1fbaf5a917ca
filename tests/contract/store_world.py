"""What the tests of the store contract are about: one search, and how it grows."""

from __future__ import annotations

from typing import Any

from kernelgrove.engine.budget import Ledger
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    ImplementationView,
    Instance,
    JobKind,
    Outcome,
    Problem,
    Stage,
    TreeView,
)
from kernelgrove.ports import (
    CodeResult,
    EvaluatedResult,
    IdeasResult,
    Job,
    PlannedJob,
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
