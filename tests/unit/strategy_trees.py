"""Views of a search, built by hand, for tests of what a strategy decides."""

from __future__ import annotations

import random
from typing import Any

from kernelgrove import strategies
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
    Stage,
    TreeView,
)


class Tree:
    """Builds a view by hand; the root is node 1."""

    def __init__(self) -> None:
        self.nodes = {1: NodeView(1, None, None, "r", 0, Idea("reference"), NodeState.OPEN, None, "")}
        self.implementations: dict[int, ImplementationView] = {}
        self.jobs: list[JobView] = []

    def job(self, kind: JobKind, state: JobState, node: int | None, implementation: int | None, **payload: Any) -> None:
        id_ = len(self.jobs) + 1
        self.jobs.append(JobView(id_, kind, state, node, implementation, f"{kind}:{id_}", payload, "said why"))

    def asked(
        self, parent: int, base: int | None, round_: int, count: int = 1, state: JobState = JobState.DONE
    ) -> None:
        self.job(JobKind.IDEATE, state, parent, base, parent=parent, base=base, count=count, round=round_)

    def node(
        self,
        parent: int = 1,
        base: int | None = None,
        round_: int = 1,
        *,
        says: str = "",
        rating: float | None = None,
    ) -> int:
        id_ = len(self.nodes) + 1
        address = f"{self.nodes[parent].address}.0-{id_}"
        idea = Idea(says or f"i{id_}")
        self.nodes[id_] = NodeView(id_, parent, base, address, round_, idea, NodeState.OPEN, None, "", rating)
        return id_

    def written(
        self, node: int, outcome: Outcome | None, time: float | None = None, *, program: str = "", **more: Any
    ) -> int:
        """An implementation of *node* with its job; judged unless *outcome* is None."""
        id_ = len(self.implementations) + 1
        variant = sum(j.kind is JobKind.IMPLEMENT and j.node == node for j in self.jobs)
        repair_of = more.get("repair_of")
        if repair_of is None:
            self.job(JobKind.IMPLEMENT, JobState.DONE, node, None, variant=variant)
        else:
            self.job(JobKind.REPAIR, JobState.DONE, node, repair_of)
        evaluation = None
        if outcome is not None:
            basis = more.get("basis", Basis.PROJECTED)
            evaluation = EvaluationView(id_, outcome, Stage.TIME, "", basis, time, {}, {})
        address = f"{self.nodes[node].address}/{variant}"
        if repair_of is not None:
            address = f"{self.implementations[repair_of].address}r0"
        self.implementations[id_] = ImplementationView(
            id_, node, address, repair_of, program or f"p{id_}", more.get("duplicate_of"), "", evaluation
        )
        return id_

    def view(self) -> TreeView:
        return TreeView(1, 0, 0, 1, self.nodes, self.implementations, tuple(self.jobs))

    def ask(self, slots: int = 9, name: str = "branch", **options: Any) -> list[Action]:
        return list(strategies.make(name, options).propose(self.view(), slots, random.Random(0)))
