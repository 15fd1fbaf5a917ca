"""What strategies are measured against, as strategies: greedy refinement, and the policy that ours grew from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kernelgrove.model import Action, Ideate, Implement, JobKind, Stop, TreeView
from kernelgrove.strategies import repairs
from kernelgrove.strategies.fold import fold


class Greedy:
    """One idea at a time for the fastest program so far, carried out once, repaired once where it fails."""

    name = "greedy"

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        if index.flying:
            return []
        work = repairs.begun(index, (), 1)
        if work:
            return work[:1]
        for base in index.passed:
            if not index.dry(base.node):
                return [Ideate(base.node, base.id, 1, len(view.nodes))]
        if index.passed:
            return [Stop("there are no more ideas")]
        return [Implement(view.root, len(index.asked(view.root)))]


class SeedPolicy:
    """TritonLLM's search, after CRFM's: rounds of 3, 4, 4, 5, 5, … ideas, spread evenly over the five fastest programs,
    with 2, 3, 3, 3, … implementations each; no repairs, nothing pruned. It is given the parent's code, which the seed
    lacked."""

    name = "seed"

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        missing = [
            Implement(n.id, v)
            for n in view.nodes.values()
            for v in range(1 if n.id == view.root else min(n.round + 1, 3))
            if v not in index.asked(n.id)
        ]
        if missing or index.flying:
            return missing[:slots]
        round_ = max((n.round for n in view.nodes.values()), default=0) + 1
        asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload["round"] == round_]
        sources: list[tuple[int, int | None]] = [(i.node, i.id) for i in index.passed[:5]] or [(view.root, None)]
        if asks:
            return [Stop("there are no more ideas")]
        counts = [0] * len(sources)
        for n in range((3, 4, 4, 5)[min(round_, 4) - 1]):
            counts[n % len(sources)] += 1
        ideas = [
            Ideate(node, base, count, round_) for (node, base), count in zip(sources, counts, strict=True) if count
        ]
        return ideas[:slots]
