"""Which failed programs to repair: those whose repair is as likely to work as another try would be.

Most first failures are compiler errors that one repair with the error text mends, while each further repair in a row is
less likely to. How likely either is differs by model and problem, so it is counted in this very search: the share of
first programs that passed against that of repairs, by how many came before. Before there is much to count, published
figures stand in (7 of 30 without error feedback, 41 to 62 % with it).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import ImplementationView, Outcome, Repair
from .fold import Fold
from .options import Option, whole

OPTIONS = (Option("repairs", 3, whole(0, 10), "repairs in a row of one failed implementation, at most; 0: none"),)

#: Published shares of what passes, and how many observations of our own each counts as.
_FIRST, _REPAIRED, _WEIGHT = 0.233, 0.515, 4.0
#: What is left of a repair's chance after each one before it.
_AGAIN = 0.7


def worth_it(fold: Fold, among: Iterable[ImplementationView], in_a_row: int) -> list[Repair]:
    """Repairs to ask for now, of those of *among* that failed, in the order given. An implementation is repaired once:
    what comes of it may be repaired in turn, up to *in_a_row* times."""
    failed = fold.repairable(among, in_a_row)
    if not failed:
        return []
    first, repaired = chances(fold, in_a_row)
    return [Repair(i.id) for i in failed if repaired[fold.repairs_before(i)] >= first]


def chances(fold: Fold, in_a_row: int) -> tuple[float, list[float]]:
    """The chance that a first program for an idea passes, and that a repair does with 0, 1, … repairs before it."""
    passed = [0.0] * (in_a_row + 1)
    judged = [0.0] * (in_a_row + 1)
    for i in fold.view.implementations.values():
        if i.evaluation is not None and i.node != fold.root.id:
            at = min(fold.repairs_before(i), in_a_row)
            judged[at] += 1
            passed[at] += i.evaluation.outcome is Outcome.OK
    shares = [_FIRST, *(_REPAIRED * _AGAIN**n for n in range(in_a_row))]
    found = [(ok + _WEIGHT * share) / (all_ + _WEIGHT) for ok, all_, share in zip(passed, judged, shares, strict=True)]
    return found[0], found[1:]
