"""Monte Carlo tree search over ideas: at each node a new idea for it (widen) or a child to go down into (deepen).

Widening is one more arm beside the children. ``policy=thompson`` takes the arm with the highest draw from its
posterior: adaptive branching, AB-MCTS-A (Inoue et al., "Wider or Deeper? Scaling LLM Inference-Time Compute with
Adaptive Branching Tree Search", 2025). ``policy=uct`` takes the one with the highest upper confidence bound (Kocsis
and Szepesvari, 2006) on a mean of the average and the best below it, since a search keeps its best kernel, not its
average one.

A node's reward is the score of its best program: log-speedup over the baseline, squashed to between 0 and 1
(``Fold.scores``), so that nothing is out of range. An idea that failed, or is under way (virtual loss: decisions taken
at once spread out), counts as a little less than what it builds on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from ..model import Action, Ideate, Implement, JobKind, Prune, Stop, TreeView
from . import pruners, repairs
from .fold import Fold, fold
from .options import Option, number_from, one_of, whole

OPTIONS = (
    Option("ideas", 100, whole(1), "ideas in all"),
    Option("policy", "uct", one_of("uct", "thompson"), "how widening or deepening is chosen"),
    Option("starts", 2, whole(1), "direct translations of the reference to start from"),
    Option("depth", 2, whole(1), "implementations an idea, while they beat its base"),
    Option("at_once", 2, whole(1), "ideas under way at once: more is sooner, fewer knows more"),
    Option("explore", 0.03, number_from(0.0), "uct: weight of the confidence bound"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)

#: What an idea that failed or is under way is taken to be worth, as a share of what it builds on.
_LOSS = 0.97
#: thompson: an arm's prior is one observation of what its node is worth, spread like this.
_SPREAD = 0.02


class Mcts:
    """Widen or deepen: tree search by Thompson sampling or upper confidence bounds."""

    name = "mcts"

    def __init__(
        self,
        ideas: int = 100,
        policy: str = "uct",
        starts: int = 2,
        depth: int = 2,
        at_once: int = 2,
        explore: float = 0.03,
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.ideas = ideas
        self.policy = policy
        self.starts = starts
        self.depth = depth
        self.at_once = at_once
        self.explore = explore
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        missing = [v for v in range(self.starts) if v not in index.translated]
        if missing:
            return [Implement(view.root, v) for v in missing[:slots]]
        prunes: list[Prune] = []
        work = repairs.begun(index, (), self.repairs, self.depth)
        asked = sum(int(j.payload["count"]) for j in index.jobs(JobKind.IDEATE))
        room = min(self.at_once - repairs.under_way(index, work), slots - len(work), self.ideas - asked)
        if room > 0:
            prunes = pruners.idle(index, work, {i.node for i in index.passed[:3]}, self.limits)
            walks = _Walks(self, index, rng, {a.node for a in prunes})
            work += [idea for idea in (walks.next() for _ in range(room)) if idea is not None]
        if work or index.flying:
            return [*prunes, *work[:slots]]
        spent = f"all {self.ideas} ideas were asked for"
        return [*prunes, Stop(spent if asked >= self.ideas else "no node has more ideas")]


class _Walks:
    """One decision's walks down the tree. What a walk asks for counts at once as under way.

    Of each branch (a node and all below it) are kept: how many rewards were seen, their sum, sum of squares and best.
    """

    def __init__(self, options: Mcts, index: Fold, rng: random.Random, gone: set[int]) -> None:
        self.options, self.index, self.rng = options, index, rng
        self.closed = gone
        nodes, scores = index.view.nodes, index.scores
        self.rewards: dict[int, float] = {}
        for id_, node in nodes.items():  # parents came first
            reward = scores.get(id_)
            if reward is None:
                reward = _LOSS * self.rewards[node.parent] if node.parent is not None else 0.0
            self.rewards[id_] = reward
        self.seen = {i.node for i in index.view.implementations.values()} | {n for n in index.busy if n is not None}
        self.count = {id_: float(id_ in self.seen) for id_ in nodes}
        self.total = {id_: self.count[id_] * reward for id_, reward in self.rewards.items()}
        self.squares = {id_: self.total[id_] * reward for id_, reward in self.rewards.items()}
        self.best = dict(self.total)
        for id_ in reversed(list(nodes)):
            parent = nodes[id_].parent
            if parent is not None:
                self.count[parent] += self.count[id_]
                self.total[parent] += self.total[id_]
                self.squares[parent] += self.squares[id_]
                if self.best[id_] > self.best[parent]:
                    self.best[parent] = self.best[id_]
        self.asked: dict[int, list[float]] = {}  # by node, the losses of ideas that are being asked for
        for job in index.flying:
            if job.kind is JobKind.IDEATE and job.node is not None:
                self._under_way(job.node)

    def _under_way(self, node: int) -> None:
        loss = _LOSS * self.rewards[node]
        self.asked.setdefault(node, []).append(loss)
        at: int | None = node
        while at is not None:
            self.count[at] += 1
            self.total[at] += loss
            self.squares[at] += loss * loss
            at = self.index.view.nodes[at].parent

    def _widening(self, node: int) -> tuple[float, float, float, float]:
        """As of a branch, of widening *node*: the rewards of its children, and of those to come."""
        rewards = [self.rewards[c.id] for c in self.index.children(node) if c.id in self.seen]
        rewards += self.asked.get(node, [])
        return len(rewards), sum(rewards), sum(r * r for r in rewards), max(rewards, default=0.0)

    def next(self) -> Ideate | None:
        """Where the next idea is asked for; None where nothing is left to widen."""
        path = [self.index.root]
        while path:
            node = path[-1]
            base = self.index.best_of(node.id)
            arms = {
                child.id: child
                for child in self.index.children(node.id)
                if child.id not in self.closed and self.index.best_of(child.id) is not None
            }
            if base is not None and self.index.open(node.id) and not self.index.dry(node.id):
                arms[node.id] = node
            if not arms:  # a dead end: not entered again in this decision
                self.closed = self.closed | {path.pop().id}
                continue
            chosen = max(arms, key=lambda arm: self._value(node.id, arm))
            if chosen == node.id and base is not None:
                self._under_way(node.id)
                return Ideate(node.id, base.id, 1, len(path))
            path.append(arms[chosen])
        return None

    def _value(self, node: int, arm: int) -> float:
        """What *arm* promises at *node*: the node itself is widening, a child is going down."""
        prior = self.rewards[arm]
        below = (self.count[arm], self.total[arm], self.squares[arm], self.best[arm])
        count, total, squares, best = self._widening(node) if arm == node else below
        if self.options.policy == "thompson":
            return self._draw(prior, count, total, squares)
        bound = math.sqrt(math.log(1 + self.count[node]) / (1 + count))
        return ((prior + total) / (1 + count) + max(prior, best)) / 2 + self.options.explore * bound

    def _draw(self, prior: float, count: float, total: float, squares: float) -> float:
        """A draw of an arm's mean from its normal-inverse-gamma posterior (Murphy, "Machine Learning", 4.6.3)."""
        weight = 1.0 + count
        own = total / count if count else prior
        spread = _SPREAD**2 + max(0.0, squares - count * own * own) + count * (prior - own) ** 2 / weight
        variance = spread / self.rng.gammavariate(weight / 2, 2.0)
        return self.rng.gauss((prior + total) / weight, math.sqrt(variance / weight))
