"""Branch: rounds of ideas, several implementations an idea, the best *k* across rounds as what to build on.

Round 0 is one direct translation of the reference. Each later round asks for ``widths`` ideas, spread over the bank
(the best ``bank`` implementations of earlier rounds), writes ``depths`` implementations of each, repairs some of the
failed ones, and ends when all are judged. The defaults are those of the published search that this one follows
(CRFM, "Surprisingly fast AI-generated kernels", 2025): 5 rounds, 3 4 4 5 ideas, 2 3 3 3 implementations, bank of 5.

Everything is decided from earlier rounds alone, and ideas are asked for one job at a time (so that each is told of
those before it): the order in which the jobs of a round finish changes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from ..model import Action, Ideate, Implement, JobKind, NodeState, NodeView, Repair, Stop, TreeView
from . import pruners
from .fold import Fold, by_address, fold
from .options import Option, whole, wholes

OPTIONS = (
    Option("rounds", 5, whole(1), "rounds, the baseline implementation (round 0) included"),
    Option(
        "widths", (3, 4, 4, 5), wholes(1), "ideas in rounds 1, 2, …; the last number holds for the rest", ("width",)
    ),
    Option("depths", (2, 3, 3, 3), wholes(1), "implementations an idea, by round as above", ("depth",)),
    Option("bank", 5, whole(1), "how many of the best implementations ideas build on", ("top_k",)),
    Option("repairs", 1, whole(0, 10), "repairs in a row of one failed implementation; 0: none"),
    Option("repair_quota", 4, whole(0), "repairs a round, apart from its ideas"),
    *pruners.OPTIONS,
)

_Source = tuple[int, int | None]  # (parent node, base implementation)


class Branch:
    """Rounds of ideas with several implementations each, building on a bank of the best."""

    name = "branch"

    def __init__(
        self,
        rounds: int = 5,
        widths: Sequence[int] = (3, 4, 4, 5),
        depths: Sequence[int] = (2, 3, 3, 3),
        bank: int = 5,
        repairs: int = 1,
        repair_quota: int = 4,
        **limits: Any,
    ) -> None:
        self.rounds = rounds
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self.bank = bank
        self.repairs = repairs
        self.repair_quota = repair_quota
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        # Rounds before the last that was asked for are over; an older one has nothing left but what is in flight.
        for round_ in range(max(0, _latest(index)), self.rounds):
            work, waiting = self._round(index, round_)
            if work:
                # Earlier rounds are over and change no more: they are pruned once, before this one is planned.
                begins = isinstance(work[0], Ideate) and _latest(index) < round_
                return [*(self._prunes(index, round_) if begins else ()), *work[:slots]]
            if waiting:
                return []
            done = pruners.at_floor(index, self.limits)
            if done or (round_ and not index.of_round(round_)):
                return [*self._prunes(index, round_), Stop(done or _no_more_ideas(index, round_))]
        return [*self._prunes(index, self.rounds), Stop(f"all {self.rounds} rounds are done")]

    def _round(self, index: Fold, round_: int) -> tuple[list[Action], bool]:
        """What to ask for in this round now, and whether something is still under way."""
        work: list[Action] = []
        if round_ == 0:
            nodes: list[NodeView] = [index.root]
            depth = 1
        else:
            nodes = index.of_round(round_)
            depth = _at(self.depths, round_)
            work += self._ideas(index, round_, len(nodes))
        for node in nodes:
            if node.state is NodeState.OPEN:
                asked = index.asked(node.id)
                work += [Implement(node.id, v) for v in range(depth) if v not in asked]
        waiting = bool(index.flying)
        if not work and not waiting:
            work += self._repairs(index, nodes)
        return work, waiting

    def _ideas(self, index: Fold, round_: int, got: int) -> list[Action]:
        """The round's next request for ideas, unless one is under way or the round has all of its ideas.

        The ideas still missing are shared evenly among the sources still to be asked; what one does not give
        falls to the next. So a source that has run dry costs one request, not the round.
        """
        asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload.get("round") == round_]
        missing = _at(self.widths, round_) - got
        if missing <= 0 or any(j.in_flight for j in asks):
            return []
        asked = {(j.payload.get("parent"), j.payload.get("base")) for j in asks}
        sources = self._sources(index, round_)
        source = next((s for s in sources if s not in asked), None)
        if source is None:
            return []
        shared = min(_at(self.widths, round_), len(sources)) - len(asks)
        return [Ideate(source[0], source[1], math.ceil(missing / max(1, shared)), round_)]

    def _sources(self, index: Fold, round_: int) -> list[_Source]:
        """Where ideas come from: the bank, best first; the bare reference first in round 1, as a last resort later."""
        root: _Source = (index.root.id, None)
        best: list[_Source] = [(i.node, i.id) for i in index.bank(self.bank, before_round=round_)]
        return [root, *best] if round_ == 1 else [*best, root]

    def _repairs(self, index: Fold, nodes: Sequence[NodeView]) -> list[Action]:
        """Repairs of what failed in these nodes, in tree order, while the round's quota lasts.

        Asked only when all of the round is judged: with a quota, who gets one must not depend on who failed first.
        """
        mine = {n.id for n in nodes if n.state is NodeState.OPEN}
        of = index.view.implementations
        left = self.repair_quota - sum(count for i, count in index.repaired.items() if of[i].node in mine)
        failed = sorted((i for n in mine for i in index.implementations(n)), key=index.place)
        return [Repair(i.id) for i in index.repairable(failed, self.repairs)[: max(0, left)]]

    def _prunes(self, index: Fold, before_round: int) -> list[Action]:
        """Prunes among the rounds that are over; what is in the bank stays."""
        if not self.limits.prune:
            return []
        over = sorted(
            (n for n in index.view.nodes.values() if n.round < before_round), key=lambda n: by_address(n.address)
        )
        keep = {i.node for i in index.bank(self.bank, before_round=before_round)}
        return pruners.prune(index, over, keep, self.limits)


def _at(values: Sequence[int], round_: int) -> int:
    """The value for round 1, 2, …; the last one holds for all further rounds."""
    return values[min(round_, len(values)) - 1]


def _latest(index: Fold) -> int:
    """The highest round that ideas were asked for in; 0 before the first."""
    return max((int(j.payload.get("round", 0)) for j in index.jobs(JobKind.IDEATE)), default=0)


def _no_more_ideas(index: Fold, round_: int) -> str:
    asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload.get("round") == round_]
    reasons = [j.reason for j in asks if j.reason]
    return f"no more ideas in round {round_}" + (f" (the last request failed: {reasons[-1]})" if reasons else "")
