"""Carrying ideas through: implement what is new, and repair what failed where that is as likely to work as a new try.

Most first failures are compiler errors that one repair with the error text mends, while each further repair in a row
is less likely to. How likely either is differs by model and problem, so it is counted in this very search: the share
of first programs that passed against that of repairs, by how many came before. Before there is much to count,
published figures stand in (7 of 30 without error feedback, 41 to 62 % with it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from ..model import Action, Implement, ImplementationView, JobKind, NodeView, Outcome, Repair
from .allocation import better
from .fold import Fold
from .options import Option, whole

OPTIONS = (Option("repairs", 3, whole(0, 10), "repairs in a row of one failed implementation, at most; 0: none"),)

#: Published shares of what passes, and how many observations of our own each counts as.
_FIRST, _REPAIRED, _WEIGHT = 0.233, 0.515, 4.0
#: How many programs are looked at: older failures are history.
_LATE = 400
#: How many ideas may still be implemented anew.
_RECENT = 16
#: What is left of a repair's chance after each one before it.
_AGAIN = 0.7


def worth_it(fold: Fold, among: Iterable[ImplementationView], in_a_row: int) -> list[Repair]:
    """Repairs to ask for now, of those of *among* that failed, in the order given. An implementation is repaired once:
    what comes of it may be repaired in turn, up to *in_a_row* times."""
    failed = fold.repairable(among, in_a_row)
    if not failed:
        return []
    first, repaired = chances(fold, _of_late(fold), in_a_row)
    return [Repair(i.id) for i in failed if repaired[fold.repairs_before(i)] >= first]


def of_round(fold: Fold, round_: int, among: Iterable[ImplementationView], in_a_row: int) -> list[Repair]:
    """As ``worth_it``, in a round that is decided step by step, each once all before it is judged: what has fewest
    repairs behind it comes first, alone.

    Slots may cut a step short, and its rest is then decided when some of it has come to something. So nothing that
    comes of a step may change it: neither which failures there are, nor how likely it is that a repair passes.
    """
    for behind, alike in groupby(fold.repairable(fold.failed(among), in_a_row), fold.repairs_before):
        first, repaired = chances(fold, _known(fold, round_, behind), in_a_row)
        if repaired[behind] >= first:
            return [Repair(i.id) for i in alike]
    return []


def in_turn(fold: Fold, nodes: Iterable[NodeView], mend: Sequence[Repair], anew: Sequence[Implement]) -> list[Action]:
    """The next step of a round: *mend*, or where that is nothing *anew*, which implements some of *nodes* once more.
    What slots have left of an earlier *anew* comes before the repairs of the rest."""
    begun = max((len(fold.asked(n.id)) for n in nodes), default=0)
    return [a for a in anew if a.variant < begun] or [*(mend or anew)]


def _known(fold: Fold, round_: int, behind: int) -> list[ImplementationView]:
    """What is known when a round repairs what has *behind* repairs behind it: its programs with no more than these, and
    rounds before it, of late. These count whole: what came last within one depends on the order in which jobs ended."""
    found: list[ImplementationView] = []
    for before in range(round_ - 1, 0, -1):
        if len(found) >= _LATE:
            break
        found += _programs(fold, before)
    return found + [i for i in _programs(fold, round_) if fold.repairs_before(i) <= behind]


def _programs(fold: Fold, round_: int) -> list[ImplementationView]:
    return [i for n in fold.of_round(round_) for i in fold.implementations(n.id)]


def _of_late(fold: Fold) -> list[ImplementationView]:
    return list(fold.view.implementations.values())[-_LATE:]


def chances(fold: Fold, among: Iterable[ImplementationView], in_a_row: int) -> tuple[float, list[float]]:
    """The chance that a first program for an idea passes, and that a repair does with 0, 1, … repairs before it, by
    what came of *among*."""
    passed = [0.0] * (in_a_row + 1)
    judged = [0.0] * (in_a_row + 1)
    root, ok = fold.root.id, Outcome.OK
    for i in among:
        if i.evaluation is not None and i.node != root:
            at = 0 if i.repair_of is None else min(fold.repairs_before(i), in_a_row)
            judged[at] += 1
            passed[at] += i.evaluation.outcome is ok
    shares = [_FIRST, *(_REPAIRED * _AGAIN**n for n in range(in_a_row))]
    found = [(ok + _WEIGHT * share) / (n + _WEIGHT) for ok, n, share in zip(passed, judged, shares, strict=True)]
    return found[0], found[1:]


def worth_another(fold: Fold, nodes: Iterable[NodeView], most: int) -> list[Implement]:
    """Another implementation of each of *nodes* that beats what it builds on, of which there are fewer than *most*:
    carried out otherwise, a good idea may bring more yet."""
    found: list[Implement] = []
    for node in nodes:
        best, asked = fold.best_of(node.id), len(fold.asked(node.id))
        if best is None or not 0 < asked < most or node.id in fold.busy or not fold.open(node.id):
            continue
        base = fold.view.implementations[node.base] if node.base is not None else None
        if base is None or fold.ms(base) is None or better(fold.standing(best), fold.standing(base)):
            found.append(Implement(node.id, asked))
    return found


def begun(fold: Fold, gone: Collection[int], in_a_row: int, most: int = 1) -> list[Action]:
    """What carries on with ideas that are there: each implemented, repairs, and up to *most* implementations of what
    beats its base; none of nodes that are *gone*."""
    new = [Implement(n.id) for n in fold.unasked if n.id not in gone]
    mend = [r for r in worth_it(fold, _of_late(fold), in_a_row) if _node(fold, r) not in gone]
    late = [fold.view.nodes[n] for n in list(fold.view.nodes)[-_RECENT:] if n not in gone]
    return [*new, *mend, *(worth_another(fold, late, most) if most > 1 else ())]


def _node(fold: Fold, repair: Repair) -> int:
    return fold.view.implementations[repair.implementation].node


def under_way(fold: Fold, work: Sequence[Action]) -> int:
    """Ideas that are being asked for, or whose programs are being written, judged or repaired, now or by *work*."""
    asks = [job for job in fold.flying if job.kind is JobKind.IDEATE]
    nodes = {job.node for job in fold.flying if job.kind is not JobKind.IDEATE}
    for action in work:
        if isinstance(action, Implement):
            nodes.add(action.node)
        elif isinstance(action, Repair):
            nodes.add(_node(fold, action))
    return len(asks) + len(nodes)
