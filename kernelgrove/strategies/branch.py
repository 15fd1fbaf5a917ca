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

from ..model import Action, Ideate, Implement, ImplementationView, JobKind, NodeState, NodeView, Repair, Stop, TreeView
from . import pruners
from .fold import (
    REPAIRABLE,
    asked_variants,
    bank,
    by_address,
    jobs_of,
    nodes_of_round,
    place,
    repairs_before,
    verdict,
)
from .options import Option, number_above, whole, wholes, yes_no

OPTIONS = (
    Option("rounds", 5, whole(1), "rounds, the baseline implementation (round 0) included"),
    Option(
        "widths", (3, 4, 4, 5), wholes(1), "ideas in rounds 1, 2, …; the last number holds for the rest", ("width",)
    ),
    Option("depths", (2, 3, 3, 3), wholes(1), "implementations an idea, by round as above", ("depth",)),
    Option("bank", 5, whole(1), "how many of the best implementations ideas build on", ("top_k",)),
    Option("repairs", 1, whole(0, 10), "repairs in a row of one failed implementation; 0: none"),
    Option("repair_quota", 4, whole(0), "repairs a round, apart from its ideas"),
    Option("prune", True, yes_no, "give up nodes that are hopeless, keep failing or improve nothing"),
    Option("hopeless", 4.0, number_above(1.0), "how many times slower than the best is hopeless"),
    Option("failures", 3, whole(1), "how many equal failures give a node up"),
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
        prune: bool = True,
        hopeless: float = 4.0,
        failures: int = 3,
    ) -> None:
        self.rounds = rounds
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self.bank = bank
        self.repairs = repairs
        self.repair_quota = repair_quota
        self.prune = prune
        self.limits = pruners.Limits(hopeless, failures)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        for round_ in range(self.rounds):
            work, waiting = self._round(view, round_)
            if work:
                return [*self._prunes(view, round_), *work[:slots]]
            if waiting:
                return []
            if round_ and not nodes_of_round(view, round_):
                return [*self._prunes(view, round_), Stop(_no_more_ideas(view, round_))]
        return [*self._prunes(view, self.rounds), Stop(f"all {self.rounds} rounds are done")]

    def _round(self, view: TreeView, round_: int) -> tuple[list[Action], bool]:
        """What to ask for in this round now, and whether something of it is still under way."""
        work: list[Action] = []
        if round_ == 0:
            nodes: tuple[NodeView, ...] = (view.nodes[view.root],)
            depth = 1
        else:
            nodes = nodes_of_round(view, round_)
            depth = _at(self.depths, round_)
            work += self._ideas(view, round_, len(nodes))
        for node in nodes:
            if node.state is NodeState.OPEN:
                asked = asked_variants(view, node.id)
                work += [Implement(node.id, v) for v in range(depth) if v not in asked]
        waiting = bool(view.in_flight())
        if not work and not waiting:
            work += self._repairs(view, nodes)
        return work, waiting

    def _ideas(self, view: TreeView, round_: int, got: int) -> list[Action]:
        """The round's next request for ideas, unless one is under way or the round has all of its ideas.

        The ideas still missing are shared evenly among the sources still to be asked; what one does not give
        falls to the next. So a source that has run dry costs one request, not the round.
        """
        asks = [j for j in jobs_of(view, JobKind.IDEATE) if j.payload.get("round") == round_]
        missing = _at(self.widths, round_) - got
        if missing <= 0 or any(j.in_flight for j in asks):
            return []
        asked = {(j.payload.get("parent"), j.payload.get("base")) for j in asks}
        sources = self._sources(view, round_)
        source = next((s for s in sources if s not in asked), None)
        if source is None:
            return []
        shared = min(_at(self.widths, round_), len(sources)) - len(asks)
        return [Ideate(source[0], source[1], math.ceil(missing / max(1, shared)), round_)]

    def _sources(self, view: TreeView, round_: int) -> list[_Source]:
        """Where ideas come from: the bank, best first; the bare reference first in round 1, as a last resort later."""
        root: _Source = (view.root, None)
        best: list[_Source] = [(i.node, i.id) for i in bank(view, self.bank, before_round=round_)]
        return [root, *best] if round_ == 1 else [*best, root]

    def _repairs(self, view: TreeView, nodes: Sequence[NodeView]) -> list[Action]:
        """Repairs of what failed in these nodes, in tree order, while the round's quota lasts.

        Asked only when all of the round is judged: with a quota, who gets one must not depend on who failed first.
        """
        repaired = [view.implementations[j.implementation] for j in jobs_of(view, JobKind.REPAIR) if j.implementation]
        mine = {n.id for n in nodes if n.state is NodeState.OPEN}
        left = self.repair_quota - sum(i.node in mine for i in repaired)
        seen = {i.program for i in repaired}
        found: list[Action] = []
        for i in sorted(view.implementations.values(), key=lambda i: place(view, i)):
            if i.node in mine and i.program not in seen and self._repairable(view, i) and len(found) < left:
                seen.add(i.program)
                found.append(Repair(i.id))
        return found

    def _repairable(self, view: TreeView, implementation: ImplementationView) -> bool:
        found = verdict(view, implementation)
        return found is not None and found.outcome in REPAIRABLE and repairs_before(view, implementation) < self.repairs

    def _prunes(self, view: TreeView, before_round: int) -> list[Action]:
        """Prunes among the rounds that are over; what is in the bank stays."""
        if not self.prune:
            return []
        over = sorted((n for n in view.nodes.values() if n.round < before_round), key=lambda n: by_address(n.address))
        best = bank(view, self.bank, before_round=before_round)
        return pruners.prune(view, over, {i.node for i in best}, best[0] if best else None, self.limits)


def _at(values: Sequence[int], round_: int) -> int:
    """The value for round 1, 2, …; the last one holds for all further rounds."""
    return values[min(round_, len(values)) - 1]


def _no_more_ideas(view: TreeView, round_: int) -> str:
    reasons = [j.reason for j in jobs_of(view, JobKind.IDEATE) if j.payload.get("round") == round_ and j.reason]
    return f"no more ideas in round {round_}" + (f" (the last request failed: {reasons[-1]})" if reasons else "")
