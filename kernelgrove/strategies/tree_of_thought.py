"""Tree of thought: several steps of reasoning before any code, and only the best thoughts are implemented.

Each round reasons about one program (the reference's translation first, then the best so far): ``breadth`` ideas, rated;
each of the ``keep`` best is thought further into ``breadth`` of its own, rated, and so on, ``thoughts`` levels deep. The
``leaves`` best of the last level are implemented, ``depth`` times each, and the next round begins from what came of it.
``search=bfs`` keeps the best of a whole level; ``search=dfs`` follows the best thought down first and goes back to the
next best where a level rates lower than where it came from. Where nothing rates (the built-in rules do not), the order
in which ideas were named stands in.

After Yao et al., "Tree of Thoughts: Deliberate Problem Solving with Large Language Models", 2023. A thought is a node
without an implementation under a node with the same base; what is not followed is pruned and keeps its rating.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..model import (
    Action,
    Ideate,
    Implement,
    ImplementationView,
    JobKind,
    NodeState,
    NodeView,
    Prune,
    Rate,
    Stop,
    TreeView,
)
from . import pruners, repairs
from .fold import Fold, by_address, fold
from .options import Option, one_of, whole

OPTIONS = (
    Option("rounds", 8, whole(1), "rounds of reasoning and implementing"),
    Option("breadth", 4, whole(1), "thoughts on each", ("width",)),
    Option("thoughts", 2, whole(1, 10), "levels of reasoning before code"),
    Option("keep", 2, whole(1), "thoughts of a level that are thought further"),
    Option("leaves", 3, whole(1), "thoughts of the last level that are implemented"),
    Option("depth", 1, whole(1), "implementations a leaf"),
    Option("search", "bfs", one_of("bfs", "dfs"), "a whole level at a time, or the best thought first"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)


class TreeOfThought:
    """Ideas refine into sub-ideas that are rated; only the best leaves become code."""

    name = "tree_of_thought"

    def __init__(
        self,
        rounds: int = 8,
        breadth: int = 4,
        thoughts: int = 2,
        keep: int = 2,
        leaves: int = 3,
        depth: int = 1,
        search: str = "bfs",
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.rounds = rounds
        self.breadth = breadth
        self.thoughts = thoughts
        self.keep = keep
        self.leaves = leaves
        self.depth = depth
        self.search = search
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        latest = max((int(j.payload["round"]) for j in index.jobs(JobKind.IDEATE)), default=0)
        for round_ in range(latest, self.rounds + 1):
            work = self._round(index, round_)
            if work:
                return self._within(work, slots)
            if index.flying:
                return []
            done = pruners.at_floor(index, self.limits)
            if done or (round_ and not self._thinking(index, round_).leaves):
                return [Stop(done or f"no more ideas in round {round_}")]
        return [Stop(f"all {self.rounds} rounds are done")]

    @staticmethod
    def _within(work: Sequence[Action], slots: int) -> list[Action]:
        prunes = [a for a in work if isinstance(a, Prune)]
        return [*prunes, *[a for a in work if not isinstance(a, Prune)][:slots]]

    def _round(self, index: Fold, round_: int) -> list[Action]:
        """What to ask for in this round now. Round 0 is the direct translation."""
        if round_ == 0:
            nodes, depth, prunes = [index.root], 1, []
        else:
            thinking = self._thinking(index, round_)
            if thinking.needs or thinking.waiting:
                return thinking.needs
            nodes, depth, prunes = thinking.leaves, self.depth, thinking.dropped
        missing = [Implement(n.id, v) for n in nodes for v in range(depth) if v not in index.asked(n.id)]
        if missing or index.flying:
            return [*prunes, *(m for m in missing if index.open(m.node))]
        written = [i for n in nodes for i in sorted(index.implementations(n.id), key=index.place)]
        return [*repairs.worth_it(index, written, self.repairs)]

    def _thinking(self, index: Fold, round_: int) -> _Thinking:
        asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload["round"] == round_]
        if asks:
            id_ = asks[0].payload["base"]
            base = index.view.implementations[id_] if id_ is not None else None
        else:
            base = self._base(index)
        thinking = _Thinking(self, index, round_, base)
        thinking.run()
        return thinking

    def _base(self, index: Fold) -> ImplementationView | None:
        """The fastest that was not reasoned about twice already; None: the bare reference, where nothing passed."""
        rounds: dict[int | None, set[int]] = {}
        for job in index.jobs(JobKind.IDEATE):
            rounds.setdefault(job.payload["base"], set()).add(int(job.payload["round"]))
        ready = [i for i in index.passed if index.open(i.node)]
        fresh = [i for i in ready if len(rounds.get(i.id, ())) < 2]
        return next(iter(fresh or ready), None)


class _Thinking:
    """The reasoning of one round: what it needs next, or the leaves that it ends in and what it dropped on the way."""

    def __init__(self, options: TreeOfThought, index: Fold, round_: int, base: ImplementationView | None) -> None:
        self.options, self.index, self.round, self.base = options, index, round_, base
        self.needs: list[Action] = []
        self.waiting = False
        self.leaves: list[NodeView] = []
        self.rated = {n for j in index.jobs(JobKind.RATE) for n in j.payload["nodes"]}

    def run(self) -> None:
        start = self.index.view.nodes[self.base.node] if self.base is not None else self.index.root
        if self.options.search == "dfs":
            self._down(start, 0)
        else:
            level = self._think([start])
            for _ in range(1, self.options.thoughts):
                if not level or self.needs or self.waiting:
                    break
                chosen = self._ranked(level)[: self.options.keep]
                deeper = self._think(chosen)
                # A thought that leads to none stands for itself.
                level = deeper + [n for n in chosen if not self._below(n)]
            if not (self.needs or self.waiting):
                self.leaves = self._ranked(level)[: self.options.leaves]

    def _below(self, node: NodeView) -> list[NodeView]:
        base = self.base.id if self.base is not None else None
        found = [n for n in self.index.children(node.id) if n.base == base and n.round == self.round]
        return sorted((n for n in found if n.state is NodeState.OPEN), key=lambda n: by_address(n.address))

    def _think(self, nodes: Sequence[NodeView]) -> list[NodeView]:
        """The thoughts on *nodes*, rated; asks for what is missing."""
        base = self.base.id if self.base is not None else None
        for node in nodes:
            asks = [
                j for j in self.index.asks(node.id) if j.payload["round"] == self.round and j.payload["base"] == base
            ]
            if not asks and self.index.open(node.id):
                self.needs.append(Ideate(node.id, base, self.options.breadth, self.round))
            self.waiting = self.waiting or any(j.in_flight for j in asks)
        found = [n for node in nodes for n in self._below(node)]
        if self.needs or self.waiting or len(found) < 2:
            return found
        if not all(n.id in self.rated for n in found):
            self.needs.append(Rate(tuple(n.id for n in found)))
        self.waiting = any(j.in_flight for j in self.index.jobs(JobKind.RATE))
        return found

    def _ranked(self, nodes: Sequence[NodeView]) -> list[NodeView]:
        """Best rated first; what is not rated keeps its order, after what is."""
        return sorted(nodes, key=lambda n: (-1.0 if n.rating is None else -1.0 - n.rating, by_address(n.address)))

    def _down(self, node: NodeView, level: int) -> None:
        """Depth first below *node*, until there are enough leaves."""
        if level == self.options.thoughts:
            self.leaves.append(node)
            return
        found = self._ranked(self._think([node]))
        if self.needs or self.waiting:
            return
        if not found and level:
            self.leaves.append(node)
        for tried, child in enumerate(found[: self.options.keep] if level else found):
            if len(self.leaves) >= self.options.leaves or self.needs or self.waiting:
                return
            if tried and (child.rating or 0.0) < (node.rating or 0.0):
                return  # back to where this thought came from: its other ones promise more
            self._down(child, level + 1)

    @property
    def dropped(self) -> list[Action]:
        """Prunes of the round's thoughts that lead to no leaf."""
        if not self.options.limits.prune:
            return []
        kept = {n.id for leaf in self.leaves for n in self.index.view.lineage(leaf.id)}
        found: list[Action] = []
        for node in self.index.of_round(self.round):
            if node.id not in kept and node.state is NodeState.OPEN and not self.index.asked(node.id):
                rating = "not rated" if node.rating is None else f"rated {node.rating:.2f}"
                found.append(Prune(node.id, f"{rating}: not among the {len(self.leaves)} thoughts that became code"))
        return found
