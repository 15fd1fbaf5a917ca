"""Monte Carlo tree search over ideas: at each node either a new idea (widen) or a child to go down into (deepen).

``policy=thompson`` is adaptive branching (AB-MCTS-A: Inoue et al., "Wider or Deeper? Scaling LLM Inference-Time Compute
with Adaptive Branching Tree Search", 2025): widening is one more arm, and the arm with the highest draw from its
posterior is taken. ``policy=uct`` widens a node while it has fewer children than ``widen`` times the square root of its
visits (progressive widening, Coulom 2007), and else goes down into the child with the highest upper confidence bound
(Kocsis and Szepesvari, 2006).

A node's reward is the score of its best program: log-speedup over the baseline, squashed to between 0 and 1
(``Fold.score``); where all failed, a share of what it builds on. Every node in a branch is one observation of its arm.
An idea that is under way counts as one that failed (virtual loss), so that decisions taken at once spread out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from ..model import Action, Ideate, Implement, JobKind, NodeView, Stop, TreeView
from . import pruners, repairs
from .fold import Fold, fold
from .options import Option, number_above, one_of, whole

OPTIONS = (
    Option("ideas", 100, whole(1), "ideas in all"),
    Option("policy", "thompson", one_of("thompson", "uct"), "how widening or deepening is chosen"),
    Option("starts", 2, whole(1), "direct translations of the reference to start from"),
    Option("explore", 0.1, number_above(0.0), "uct: weight of the confidence bound"),
    Option("widen", 1.5, number_above(0.0), "uct: children of a node, times the square root of its visits"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)

#: The reward of a node where all failed, as a share of that of what it builds on.
_FAILED = 0.8
#: The prior of an arm: it counts as so many observations, spread like this, of what its node is worth.
_WEIGHT, _SPREAD = 1.0, 0.05


class Mcts:
    """Widen or deepen: tree search by Thompson sampling or upper confidence bounds."""

    name = "mcts"

    def __init__(
        self,
        ideas: int = 100,
        policy: str = "thompson",
        starts: int = 2,
        explore: float = 0.1,
        widen: float = 1.5,
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.ideas = ideas
        self.policy = policy
        self.starts = starts
        self.explore = explore
        self.widen = widen
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        missing = [v for v in range(self.starts) if v not in index.asked(view.root)]
        if missing:
            return [Implement(view.root, v) for v in missing[:slots]]
        done = pruners.at_floor(index, self.limits)
        prunes = pruners.prune(index, view.nodes.values(), {i.node for i in index.passed[:3]}, self.limits)
        gone = {a.node for a in prunes}
        alive = [i for i in view.implementations.values() if i.node not in gone]
        work: list[Action] = [a for a in self._begun(index) if a.node not in gone]
        work += repairs.worth_it(index, alive, self.repairs)
        asked = sum(int(j.payload["count"]) for j in index.jobs(JobKind.IDEATE))
        if not done:
            search = _Descent(self, index, rng, gone)
            while len(work) < slots and asked < self.ideas:
                action = search.next()
                if action is None:
                    break
                asked += 1
                work.append(action)
        if work or index.flying:
            return [*prunes, *work[:slots]]
        return [*prunes, Stop(done or f"all {self.ideas} ideas were asked for" if asked >= self.ideas else _DRY)]

    def _begun(self, index: Fold) -> list[Implement]:
        """Ideas that are still to be implemented, in the order in which they came."""
        nodes = index.view.nodes.values()
        return [Implement(n.id) for n in nodes if n.id != index.root.id and index.open(n.id) and not index.asked(n.id)]


class _Descent:
    """One decision's walk down the tree, repeated; what it asks for counts at once as under way."""

    def __init__(self, options: Mcts, index: Fold, rng: random.Random, gone: set[int]) -> None:
        self.options, self.index, self.rng = options, index, rng
        self.closed = gone
        self.rewards: dict[int, float] = {}
        self.sums: dict[int, tuple[int, float, float]] = {}  # of a whole branch: count, sum, sum of squares
        for node in index.view.nodes.values():  # parents came first
            self.rewards[node.id] = self._reward(node)
        for node in reversed(list(index.view.nodes.values())):
            reward = self.rewards[node.id]
            count, total, squares = self.sums.get(node.id, (0, 0.0, 0.0))
            self.sums[node.id] = (count + 1, total + reward, squares + reward * reward)
            if node.parent is not None:
                self._add(node.parent, *self.sums[node.id])
        self.asked = {n: sum(j.in_flight for j in index.asks(n)) for n in index.view.nodes if index.asks(n)}
        for asked, count in self.asked.items():
            for _ in range(count):
                self._under_way(asked)

    def _reward(self, node: NodeView) -> float:
        best = self.index.best_of(node.id)
        if best is not None:
            return self.index.score(best)
        return _FAILED * self.rewards[node.parent] if node.parent is not None else 0.0

    def _add(self, node: int, count: int, total: float, squares: float) -> None:
        before = self.sums.get(node, (0, 0.0, 0.0))
        self.sums[node] = (before[0] + count, before[1] + total, before[2] + squares)

    def _under_way(self, node: int) -> None:
        loss = _FAILED * self.rewards[node]
        at: int | None = node
        while at is not None:
            self._add(at, 1, loss, loss * loss)
            at = self.index.view.nodes[at].parent

    def next(self) -> Ideate | None:
        """Where the next idea is asked for; None where nothing is left to widen."""
        path = [self.index.root]
        while path:
            node = path[-1]
            below = [c for c in self.index.children(node.id) if c.id not in self.closed and self._base(c) is not None]
            can_widen = self._base(node) is not None and self.index.open(node.id) and not self.index.dry(node.id)
            chosen = self._choose(node, below, can_widen)
            if chosen is None:  # a dead end: never come here again in this decision
                self.closed.add(path.pop().id)
            elif chosen is node:
                self.asked[node.id] = self.asked.get(node.id, 0) + 1
                self._under_way(node.id)
                base = self.index.best_of(node.id)
                assert base is not None
                return Ideate(node.id, base.id, 1, len(path))
            else:
                path.append(chosen)
        return None

    def _base(self, node: NodeView) -> object:
        return self.index.best_of(node.id)

    def _choose(self, node: NodeView, below: Sequence[NodeView], can_widen: bool) -> NodeView | None:
        if not below:
            return node if can_widen else None
        if self.options.policy == "uct":
            children = len(self.index.children(node.id)) + self.asked.get(node.id, 0)
            if can_widen and children < self.options.widen * math.sqrt(self.sums[node.id][0]):
                return node
            return max(below, key=lambda c: self._bound(c.id, self.sums[node.id][0]))
        arms = {c.id: c for c in below}
        draws = {c.id: self._draw(self.rewards[c.id], *self.sums[c.id]) for c in below}
        best = max(draws, key=draws.__getitem__)
        if can_widen and self._widening(node) > draws[best]:
            return node
        return arms[best]

    def _bound(self, node: int, visits: int) -> float:
        count, total, _ = self.sums[node]
        return total / count + self.options.explore * math.sqrt(math.log(visits + 1) / count)

    def _widening(self, node: NodeView) -> float:
        rewards = [self.rewards[c.id] for c in self.index.children(node.id)]
        rewards += [_FAILED * self.rewards[node.id]] * self.asked.get(node.id, 0)
        return self._draw(self.rewards[node.id], len(rewards), sum(rewards), sum(r * r for r in rewards))

    def _draw(self, prior: float, count: int, total: float, squares: float) -> float:
        """A draw of an arm's mean from its normal-inverse-gamma posterior (Murphy, "Machine Learning", 4.6.3)."""
        weight, freedom = _WEIGHT + count, 1.0 + count
        mean = (_WEIGHT * prior + total) / weight
        own = total / count if count else prior
        spread = _SPREAD**2 + max(0.0, squares - count * own * own) + _WEIGHT * count * (prior - own) ** 2 / weight
        variance = spread / self.rng.gammavariate(freedom / 2, 2.0)
        return self.rng.gauss(mean, math.sqrt(variance / weight))


_DRY = "no node has more ideas"
