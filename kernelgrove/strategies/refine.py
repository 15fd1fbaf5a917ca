"""Refine: chains of turns, each turn an answer to what came of the one before, as in multi-turn refinement.

A chain starts from a direct translation. A turn is a repair where the last program failed (with its error text), else
an idea for the last one that passed (with its figures), carried out once. A step that is slower may lead on: the
chain goes back to its best only after ``stuck`` turns without a faster one; after as many again, or once it is
hopeless, it is given up and a new one begins in its place. ``chains`` of them run side by side until each place has
had its ``turns``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..model import Action, Ideate, Implement, ImplementationView, JobKind, NodeView, Prune, Stop, TreeView
from . import pruners, repairs
from .allocation import better
from .fold import Fold, fold
from .options import Option, whole

OPTIONS = (
    Option("chains", 2, whole(1), "chains side by side", ("width",)),
    Option("turns", 24, whole(1), "programs a chain may write, its successors' included", ("rounds",)),
    Option("stuck", 8, whole(1), "turns without a faster program until a chain goes back to its best"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)


@dataclass
class _Chain:
    """What the tree holds of one chain, oldest first; *variant* is its translation's."""

    variant: int
    programs: list[ImplementationView] = field(default_factory=list)
    ideas: list[NodeView] = field(default_factory=list)
    busy: bool = False


class Refine:
    """Chains of refinement, each turn answering what came of the one before."""

    name = "refine"

    def __init__(self, chains: int = 2, turns: int = 24, stuck: int = 8, repairs: int = 3, **limits: Any) -> None:
        self.chains = chains
        self.turns = turns
        self.stuck = stuck
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        chains = _chains(index)
        prunes: list[Action] = []
        work: list[Action] = []
        for place in range(self.chains):
            mine = [chains[v] for v in sorted(chains) if v % self.chains == place]
            if len(work) == slots or (mine and mine[-1].busy) or sum(_turns(index, c) for c in mine) >= self.turns:
                continue
            if not mine:
                work.append(Implement(index.root.id, place))
                continue
            action, why = self._turn(index, mine[-1])
            work.append(action or Implement(index.root.id, mine[-1].variant + self.chains))
            last = mine[-1].ideas[-1] if mine[-1].ideas else None
            if action is None and self.limits.prune and last is not None and index.open(last.id):
                prunes.append(Prune(last.id, f"its chain is given up: {why}"))
        if work or index.flying:
            return [*prunes, *work]
        return [Stop(f"all {self.chains} chains had their turns")]

    def _turn(self, index: Fold, chain: _Chain) -> tuple[Action | None, str]:
        """The chain's next turn, or None and why it is given up."""
        for idea in chain.ideas:
            if index.open(idea.id) and not index.asked(idea.id):
                return Implement(idea.id), ""
        mend = repairs.worth_it(index, chain.programs[-1:], self.repairs)
        if mend:
            return mend[0], ""
        passed = [i for i in chain.programs if index.ms(i) is not None and index.open(i.node)]
        if not passed:
            return None, "nothing passed"
        best, stale = _best(index, chain.programs)
        if stale >= 2 * self.stuck:
            return None, f"no faster program in {stale} turns"
        lost = self.limits.prune and pruners.hopeless(index.ms(best), index.best_ms, self.limits.hopeless)
        if lost:
            return None, lost
        base = best if stale >= self.stuck and best in passed else passed[-1]
        if index.dry(base.node):
            return None, "there are no more ideas"
        return Ideate(base.node, base.id, 1, len(chain.ideas) + 1), ""


def _chains(index: Fold) -> dict[int, _Chain]:
    """Every chain by the variant of its translation: a program belongs where what it was made from does. What another
    strategy made from the bare reference is of no chain."""
    found = {variant: _Chain(variant) for variant in index.translated}
    of: dict[int, _Chain] = {}
    of_idea: dict[int, _Chain] = {}
    for i in index.view.implementations.values():  # what a program was made from came before it
        base = i.repair_of if i.repair_of is not None else index.view.nodes[i.node].base
        if base in of:
            of[i.id] = of[base]
        elif base is None and i.node == index.root.id:  # its address is r/<variant>
            of[i.id] = found[int(re.split("[/r]", i.address.partition("/")[2])[0])]
        else:
            continue
        of[i.id].programs.append(i)
    for node in index.view.nodes.values():
        if node.base in of:
            of_idea[node.id] = of[node.base]
            of[node.base].ideas.append(node)
    for job in index.flying:
        if job.implementation in of:  # a repair, an evaluation, or ideas for a program
            of[job.implementation].busy = True
        elif job.node in of_idea:
            of_idea[job.node].busy = True
        elif job.kind is JobKind.IMPLEMENT and job.node == index.root.id:
            found[int(job.payload["variant"])].busy = True
    return found


def _turns(index: Fold, chain: _Chain) -> int:
    """Programs that a chain asked for, its translation included."""
    repairs = sum(index.repaired.get(i.id, 0) for i in chain.programs)
    return 1 + repairs + sum(len(index.asked(n.id)) for n in chain.ideas)


def _best(index: Fold, programs: Sequence[ImplementationView]) -> tuple[ImplementationView, int]:
    """The fastest, and how many programs were written since one was faster beyond doubt."""
    best: ImplementationView | None = None
    stale = 0
    for i in programs:
        stale += 1
        if index.ms(i) is not None and (best is None or better(index.standing(i), index.standing(best))):
            best, stale = i, 0
    assert best is not None, "called where something passed"
    return best, stale
