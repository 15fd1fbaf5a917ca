"""Tree of thought: several steps of reasoning before any code, and only the best thoughts are implemented.

Each round reasons about one program, the fastest that it did not reason about twice already: ``breadth`` ideas,
rated; each of the ``keep`` best is thought further into ``breadth`` of its own, rated, and so on, ``thoughts`` levels
deep. The ``leaves`` best of the last level become code; what fails is repaired, and what beats its base is implemented
anew, up to ``depth`` times in all. ``search=bfs`` keeps the best of a whole level; ``search=dfs`` follows the best
thought down first, and goes back to the next best where a level rates lower than the thought it came from.

Where ratings cannot be had (the built-in rules give none) there is nothing to choose thoughts by: ideas are then
carried out as they are, all of them.

After Yao et al., "Tree of Thoughts: Deliberate Problem Solving with Large Language Models", 2023. A thought is a node
without an implementation, under a node with the same base; what is not followed is pruned and keeps its rating.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from ..model import (
    Action,
    Ideate,
    Implement,
    ImplementationView,
    JobKind,
    JobState,
    NodeState,
    NodeView,
    Prune,
    Rate,
    Stop,
    TreeView,
)
from . import pruners, repairs
from .fold import Fold, among_siblings, by_address, fold
from .options import Option, at, lists_match_rounds, one_of, whole, wholes

OPTIONS = (
    Option("rounds", 12, whole(1), "rounds, the baseline implementation (round 0) included"),
    Option(
        "breadth", (4,), wholes(1), "thoughts on each, in rounds 1, 2, …, or one number for all", ("width", "widths")
    ),
    Option("thoughts", 2, whole(1, 10), "levels of reasoning before code"),
    Option("keep", 2, whole(1), "thoughts of a level that are thought further", ("top_k",)),
    Option("leaves", 2, whole(1), "thoughts of the last level that become code"),
    Option("depth", (2,), wholes(1), "implementations a leaf, by round, while they beat its base", ("depths",)),
    Option("search", "bfs", one_of("bfs", "dfs"), "a whole level at a time, or the best thought first"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)

#: How many rounds reason about the same program before the next best has its turn.
_VISITS = 2


def settle(values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises UsageError for lists that do not match the rounds."""
    return lists_match_rounds("tree_of_thought", values, given, ("breadth", "depth"))


class TreeOfThought:
    """Ideas refine into sub-ideas that are rated; only the best become code."""

    name = "tree_of_thought"

    def __init__(
        self,
        rounds: int = 12,
        breadth: Sequence[int] = (4,),
        thoughts: int = 2,
        keep: int = 2,
        leaves: int = 2,
        depth: Sequence[int] = (2,),
        search: str = "bfs",
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.rounds = rounds
        self.breadth = tuple(breadth)
        self.thoughts = thoughts
        self.keep = keep
        self.leaves = leaves
        self.depth = tuple(depth)
        self.search = search
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        asks = index.jobs(JobKind.IDEATE)
        latest = int(asks[-1].payload["round"]) if asks else 0
        for round_ in range(latest, self.rounds):
            thinking = _Thinking(self, index, round_) if round_ else None
            work = self._round(index, round_, thinking)
            if work:
                dropped = thinking.dropped if thinking is not None else []
                return [*dropped, *work[:slots]]
            if index.flying:
                return []
            if thinking is not None and thinking.nowhere:
                return [Stop("no program has more ideas")]
        return [Stop(f"all {self.rounds} rounds are done")]

    def _round(self, index: Fold, round_: int, thinking: _Thinking | None) -> Sequence[Action]:
        """What to ask for in a round now; round 0, in which there is no thinking, is the direct translation."""
        nodes, depth = [index.root], 1
        if thinking is not None:
            if thinking.needs or thinking.waiting:
                return thinking.needs
            nodes, depth = [n for n in thinking.leaves if index.open(n.id)], at(self.depth, round_)
        new = [Implement(n.id) for n in nodes if not index.asked(n.id)]
        if new or index.flying:
            return new
        written = [i for n in nodes for i in index.implementations(n.id)]
        mend = repairs.of_round(index, round_, written, self.repairs)
        return repairs.in_turn(index, nodes, mend, repairs.worth_another(index, nodes, depth))


class _Thinking:
    """The reasoning of one round: what it needs next, or the leaves that it ends in."""

    def __init__(self, options: TreeOfThought, index: Fold, round_: int) -> None:
        self.options, self.index, self.round = options, index, round_
        self.needs: list[Action] = []
        self.waiting = False
        self.leaves: list[NodeView] = []
        ratings = index.jobs(JobKind.RATE)
        self.rating = any(job.kind is JobKind.RATE for job in index.flying)
        # Where the last requests for ratings came to nothing, there is nobody here who rates.
        over = [*islice((j.state for j in reversed(ratings) if not j.in_flight), 2)]
        self.blind = bool(over) and all(state is not JobState.DONE for state in over)
        # Rounds come one after the other, and so do their requests.
        asks = [*takewhile(lambda j: j.payload["round"] == round_, reversed(index.jobs(JobKind.IDEATE)))][::-1]
        base = index.view.implementations.get(asks[0].payload["base"]) if asks else self._pick()
        self.nowhere = not asks and base is None and index.dry(index.root.id, misses=1)
        if self.nowhere:
            return
        self.base = base.id if base is not None else None
        start = index.view.nodes[base.node] if base is not None else index.root
        if options.search == "dfs" and not self.blind:
            self._down(start, 0)
        else:
            self._level_by_level(start)

    def _pick(self) -> ImplementationView | None:
        """The fastest that was not reasoned about often enough; None: the bare reference, where nothing passed."""
        rounds: dict[int | None, set[int]] = {}
        for job in self.index.jobs(JobKind.IDEATE):
            rounds.setdefault(job.payload["base"], set()).add(int(job.payload["round"]))
        ready = [i for i in self.index.passed if self.index.open(i.node) and not self.index.dry(i.node, misses=1)]
        fresh = [i for i in ready if len(rounds.get(i.id, ())) < _VISITS]
        return next(iter(fresh or ready), None)

    def _level_by_level(self, start: NodeView) -> None:
        level = [start]
        last = 1 if self.blind else self.options.thoughts
        for depth in range(1, last + 1):
            above, most = level, self.options.leaves if depth == last else self.options.keep
            # A thought that leads to none stands for itself.
            found = self._thoughts(above)
            level = found + [n for n in above if n is not start and not self._below(n)]
            if self.needs or self.waiting:
                return
            if len(level) > most and not self.blind:
                if self._rate(level):
                    return
                level = self._ranked(level)[:most]
        self.leaves = level

    def _down(self, node: NodeView, depth: int) -> None:
        """Depth first below *node*, until there are enough leaves."""
        if depth == self.options.thoughts:
            self.leaves.append(node)
            return
        found = self._thoughts([node])
        if self.needs or self.waiting or (len(found) > 1 and self._rate(found)):
            return
        if not found and depth:
            self.leaves.append(node)
        for tried, child in enumerate(self._ranked(found)[: self.options.keep if depth else None]):
            lower = depth and tried and (child.rating or 0.0) < (node.rating or 0.0)
            if lower or len(self.leaves) >= self.options.leaves or self.needs or self.waiting:
                return
            self._down(child, depth + 1)

    def _below(self, node: NodeView) -> list[NodeView]:
        found = [n for n in self.index.children(node.id) if n.base == self.base and n.round == self.round]
        return sorted((n for n in found if n.state is NodeState.OPEN), key=lambda n: among_siblings(n))

    def _thoughts(self, nodes: Sequence[NodeView]) -> list[NodeView]:
        """The thoughts on *nodes*; asks for what is missing."""
        for node in nodes:
            asks = [j for j in self.index.asks(node.id) if j.payload["round"] == self.round]
            if not asks and self.index.open(node.id):
                self.needs.append(Ideate(node.id, self.base, at(self.options.breadth, self.round), self.round))
            self.waiting = self.waiting or any(j.in_flight for j in asks)
        return [n for node in nodes for n in self._below(node)]

    def _rate(self, nodes: Sequence[NodeView]) -> bool:
        """Whether ratings of *nodes* have to be had first; asks for them."""
        if not all(n.id in self.index.rated for n in nodes):
            self.needs.append(Rate(tuple(n.id for n in nodes)))
        self.waiting = self.waiting or self.rating
        return bool(self.needs or self.waiting)

    @staticmethod
    def _ranked(nodes: Sequence[NodeView]) -> list[NodeView]:
        """Best rated first; what has no rating comes last, in tree order."""
        return sorted(nodes, key=lambda n: (n.rating is None, -(n.rating or 0.0), by_address(n.address)))

    @property
    def dropped(self) -> list[Prune]:
        """Prunes of the round's thoughts that lead to no leaf, once it is known which do."""
        if not self.options.limits.prune or self.needs or self.waiting:
            return []
        kept = {n.id for leaf in self.leaves for n in self.index.view.lineage(leaf.id)}
        found: list[Prune] = []
        for node in sorted(self.index.of_round(self.round), key=lambda n: by_address(n.address)):
            if node.id not in kept and node.state is NodeState.OPEN and not self.index.asked(node.id):
                rating = "not rated" if node.rating is None else f"rated {node.rating:.2f}"
                found.append(Prune(node.id, f"{rating}: not among the {len(self.leaves)} thoughts that became code"))
        return found
