"""Branch: rounds of ideas, implementations of each, and the best *k* across rounds as what to build on.

Round 0 is one direct translation of the reference. Each later round asks for ``widths`` ideas for programs of the
bank (the best ``bank`` of earlier rounds, slower ones than the leader among them: a published winning path had four
slower steps in thirteen), most of them for the most promising: the fastest, less ``spread`` for each idea it had
before.

Every idea is implemented once; what fails is repaired while that is likely to work, under a quota of its own, and
implemented anew, up to ``depths`` times in all, while nothing of it has passed. With ``together`` all ``depths`` are
written at once, as the published search did (CRFM, "Surprisingly fast AI-generated kernels", 2025: 5 rounds,
3 4 4 5 ideas, 2 3 3 3 implementations, bank of 5; the defaults are its).

Ideas are decided from earlier rounds alone, and asked for one job at a time (so that each is told of those before it);
repairs and what is implemented anew step by step, each once all before it is judged. So neither the order in which the
jobs of a round finish nor how many run at once changes anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..model import Action, Ideate, Implement, JobKind, NodeState, NodeView, Prune, Repair, Stop, TreeView
from . import pruners, repairs
from .fold import Fold, by_address, fold
from .options import Option, at, lists_match_rounds, number_from, whole, wholes, yes_no

OPTIONS = (
    Option("rounds", 5, whole(1), "rounds, the baseline implementation (round 0) included"),
    Option("widths", (3, 4, 4, 5), wholes(1), "ideas in rounds 1, 2, …, or one number for all", ("width",)),
    Option("depths", (2, 3, 3, 3), wholes(1), "implementations an idea, by round as above, at most", ("depth",)),
    Option("bank", 5, whole(1), "how many of the best implementations ideas build on", ("top_k",)),
    Option("spread", 0.1, number_from(0.0), "nats of speed that an idea had before takes off a program's promise"),
    Option("together", False, yes_no, "write all implementations of an idea at once"),
    *repairs.OPTIONS,
    Option("repair_quota", 12, whole(0), "repairs a round, apart from its ideas"),
    *pruners.OPTIONS,
)


def settle(values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises UsageError for lists that do not match the rounds."""
    return lists_match_rounds("branch", values, given, ("widths", "depths"))


class Branch:
    """Rounds of ideas with several implementations each, building on a bank of the best."""

    name = "branch"

    def __init__(
        self,
        rounds: int = 5,
        widths: Sequence[int] = (3, 4, 4, 5),
        depths: Sequence[int] = (2, 3, 3, 3),
        bank: int = 5,
        spread: float = 0.1,
        together: bool = False,
        repairs: int = 3,
        repair_quota: int = 12,
        **limits: Any,
    ) -> None:
        self.rounds = rounds
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self.bank = bank
        self.spread = spread
        self.together = together
        self.repairs = repairs
        self.repair_quota = repair_quota
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        latest = _latest(index)
        for round_ in range(latest, self.rounds):
            work = self._round(index, round_)
            if work:
                # Earlier rounds are over and change no more: they are pruned once, when this one begins.
                return [*(self._prunes(index, round_) if round_ > latest else ()), *work[:slots]]
            if index.flying:
                return []
            if round_ and not index.of_round(round_):
                return [*self._prunes(index, round_), Stop(_no_more_ideas(index, round_))]
        return [*self._prunes(index, self.rounds), Stop(f"all {self.rounds} rounds are done")]

    def _round(self, index: Fold, round_: int) -> list[Action]:
        """What to ask for in this round now."""
        work: list[Action] = []
        nodes: Sequence[NodeView] = [index.root]
        depth = 1
        if round_:
            nodes, depth = index.of_round(round_), at(self.depths, round_)
            work += self._ideas(index, round_, len(nodes))
        nodes = [n for n in nodes if n.state is NodeState.OPEN]
        first = range(depth if self.together else 1)
        new = [n for n in nodes if any(v not in index.asked(n.id) for v in first)]
        work += [Implement(n.id, v) for n in _in_order(new) for v in first if v not in index.asked(n.id)]
        if work or index.flying:
            return work
        anew = [n for n in nodes if index.best_of(n.id) is None and len(index.asked(n.id)) < depth]
        again = [Implement(n.id, len(index.asked(n.id))) for n in _in_order(anew)]
        return repairs.in_turn(index, nodes, self._repairs(index, round_, nodes), again)

    def _ideas(self, index: Fold, round_: int, got: int) -> list[Action]:
        """The round's next request for ideas, unless one is under way or the round has all of its ideas.

        What a program's request does not bring falls to the next. So one that has run dry costs a request, not a round.
        """
        asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload["round"] == round_]
        missing = at(self.widths, round_) - got
        if missing <= 0 or any(j.in_flight for j in asks):
            return []
        asked = {j.payload["base"] for j in asks}
        shares = self._shares(index, round_)
        left = [base for base in shares if base not in asked]
        if not left:
            return []
        base = left[0]
        due = sum(shares.get(b, 0) for b in asked) - got + shares[base] if shares[base] else missing
        parent = index.root.id if base is None else index.view.implementations[base].node
        # The shares may have moved since the round began, where a program was measured again.
        return [Ideate(parent, base, max(1, min(missing, due)), round_)]

    def _shares(self, index: Fold, round_: int) -> dict[int | None, int]:
        """How many of the round's ideas are for each program of the bank, the most promising first. Those with none,
        and the bare reference at last, stand in for what the others do not bring."""
        bank = index.bank(self.bank, before_round=round_)
        asked = {i.id: index.asked_of(i.id, before_round=round_) for i in bank}
        shares: dict[int | None, int] = {}
        for _ in range(at(self.widths, round_) if bank else 0):
            best = max(bank, key=lambda i: index.worth(i, asked[i.id], self.spread))
            asked[best.id] += 1
            shares[best.id] = shares.get(best.id, 0) + 1
        return shares | {i.id: 0 for i in bank if i.id not in shares} | {None: 0}

    def _repairs(self, index: Fold, round_: int, nodes: Sequence[NodeView]) -> list[Repair]:
        """Repairs of what failed in these nodes of the round, while its quota lasts.

        Asked only when all of the round is judged: with a quota, who gets one must not depend on who failed first.
        """
        written = [i for n in nodes for i in index.implementations(n.id)]
        left = self.repair_quota - sum(index.repaired.get(i.id, 0) for i in written)
        return [*repairs.of_round(index, round_, written, self.repairs)[: max(0, left)]]

    def _prunes(self, index: Fold, before_round: int) -> list[Prune]:
        """Prunes among the rounds that are over; what is in the bank stays."""
        over = [n for n in index.view.nodes.values() if n.round < before_round and n.state is NodeState.OPEN]
        keep = {i.node for i in index.bank(self.bank, before_round=before_round)}
        found = pruners.prune(index, over, keep, self.limits)
        return sorted(found, key=lambda a: by_address(index.view.nodes[a.node].address))


def _in_order(nodes: Iterable[NodeView]) -> list[NodeView]:
    return sorted(nodes, key=lambda n: by_address(n.address))


def _latest(index: Fold) -> int:
    """The highest round that ideas were asked for in; 0 before the first. Those before it are over."""
    return max((int(j.payload["round"]) for j in index.jobs(JobKind.IDEATE)), default=0)


def _no_more_ideas(index: Fold, round_: int) -> str:
    asks = [j for j in index.jobs(JobKind.IDEATE) if j.payload["round"] == round_]
    reasons = [j.reason for j in asks if j.reason]
    return f"no more ideas in round {round_}" + (f" (the last request failed: {reasons[-1]})" if reasons else "")
