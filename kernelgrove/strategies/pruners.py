"""Pruners: each gives a reason to expand a node no further, or None. Pure; a strategy decides which nodes to ask about.

A pruned node keeps its implementations and figures; only nothing more is asked of it. The same program is never
judged twice whatever the strategy: the store sees to that, and ``duplicates`` only keeps a search from building on
the copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..model import Action, Implement, ImplementationView, NodeState, NodeView, Outcome, Prune, Repair
from .allocation import better
from .fold import Fold
from .options import Option, number_above, whole, yes_no

OPTIONS = (
    Option("prune", True, yes_no, "give up what is hopeless, dominated, a duplicate, fails again or stands still"),
    Option("hopeless", 4.0, number_above(1.0), "how many times slower than the best is hopeless"),
    Option("failures", 3, whole(1), "how many equal failures give a node up"),
    Option("steps", 2, whole(1), "how many steps in a row without improvement give a node up"),
)

#: A branch is judged as a whole once so many of its programs are.
_TRIES = 4
#: How many nodes count as recent.
_RECENT = 16
#: A kernel this close to what moving its bytes takes has nothing left to gain.
_FLOOR = 1.02


@dataclass(frozen=True)
class Limits:
    """*hopeless*: times the best time past which a node is given up; *failures*: how many equal failures give it up;
    *steps*: how many steps in a row without improvement. With *prune* False no reason is ever found."""

    prune: bool = True
    hopeless: float = 4.0
    failures: int = 3
    steps: int = 2


def idle(fold: Fold, work: Iterable[Action], keep: Collection[int], limits: Limits) -> list[Prune]:
    """Prunes among the nodes that came last and that *work* does not go on with. An older node that something better
    has overtaken is not built on anyway."""
    every = fold.view.implementations
    touched = {a.node for a in work if isinstance(a, Implement)}
    touched |= {every[a.implementation].node for a in work if isinstance(a, Repair)}
    recent = [fold.view.nodes[n] for n in list(fold.view.nodes)[-_RECENT:]]
    return prune(fold, recent, {*keep, *touched}, limits)


def prune(fold: Fold, nodes: Iterable[NodeView], keep: Collection[int], limits: Limits) -> list[Prune]:
    """Prune actions for those of *nodes* that are open, without work in flight, and not in *keep*. The root is never
    pruned: it is the reference. A repair that is still to come is the strategy's to wait for."""
    if not limits.prune:
        return []
    root, busy = fold.view.root, fold.busy
    found: list[Prune] = []
    for node in nodes:
        if node.state is not NodeState.OPEN or node.id == root or node.id in keep or node.id in busy:
            continue
        own = fold.implementations(node.id)
        if not own:
            continue
        best = fold.best_of(node.id)
        if best is None:
            reason = same_failure(fold, node, limits.failures)
        else:
            reason = (
                duplicates(fold, node)
                or hopeless(fold.ms(best), fold.best_ms, limits.hopeless)
                or no_improvement(fold, node, limits.steps)
                or dominated(fold, node)
            )
        if reason:
            found.append(Prune(node.id, reason))
    return found


def duplicates(fold: Fold, node: NodeView) -> str | None:
    """All of the node's programs were written before, for other nodes."""
    if not all(fold.copied(i) for i in fold.implementations(node.id)):
        return None
    first = [fold.original(i) for i in fold.implementations(node.id)]
    if any(i.node == node.id for i in first):
        return None
    said = fold.view.nodes[min(first, key=fold.place).node].idea.text
    return f"duplicate: {'its program was' if len(first) == 1 else 'all its programs were'} written before, for: {said}"


def hopeless(own: float | None, limit: float | None, factor: float) -> str | None:
    """*own*, the milliseconds of the node's fastest, are more than *factor* times the leader's, *limit*."""
    if own is None or limit is None or own <= factor * limit:
        return None
    return f"hopeless: {own:.4g} ms, {own / limit:.1f} times the best ({limit:.4g} ms)"


def same_failure(fold: Fold, node: NodeView, at_least: int) -> str | None:
    """Nothing passed, and at least *at_least* implementations all ended the same way."""
    judged = [v.outcome for v in map(fold.verdict, fold.implementations(node.id)) if v is not None]
    if len(judged) < at_least or len(set(judged)) != 1 or judged[0] is Outcome.OK:
        return None
    return f"same failure: all {len(judged)} implementations ended in {judged[0].value}"


def no_improvement(fold: Fold, node: NodeView, steps: int) -> str | None:
    """None of the last *steps* steps to this node is faster, beyond doubt, than what the first of them builds on.

    With one step a node must beat its base; with more a slower one may stay, for what builds on it: in a published
    winning path four of thirteen steps were slower than their parent.
    """
    at, taken = node, []
    for _ in range(steps):
        best = fold.best_of(at.id)
        if best is None or at.base is None:
            return None
        taken.append(best)
        base = fold.view.implementations[at.base]
        at = fold.view.nodes[base.node]
    if fold.ms(base) is None or any(better(fold.standing(i), fold.standing(base)) for i in taken):
        return None
    own = f"no improvement: {fold.ms(taken[0]):.4g} ms, and "
    if steps == 1:
        return f"{own}its base takes {fold.ms(base):.4g} ms"
    return f"{own}{steps} steps before it took {fold.ms(base):.4g} ms"


def dominated(fold: Fold, node: NodeView) -> str | None:
    """Of this node's whole branch nothing beats what it builds on, and another branch from there does better."""
    limit = fold.ms(fold.view.implementations[node.base]) if node.base is not None else None
    if not fold.children(node.id) and len(fold.implementations(node.id)) < _TRIES:
        return None
    programs = [i for n in fold.branch(node.id) for i in fold.implementations(n) if fold.verdict(i) is not None]
    own = fold.branch_best(node.id)
    if own is None or limit is None or own < limit or len(programs) < _TRIES:
        return None
    rivals = [fold.branch_best(n.id) for n in fold.building_on(node.base) if n.id != node.id]
    rival = min((ms for ms in rivals if ms is not None), default=None)
    if rival is None or rival >= limit:
        return None
    return (
        f"dominated: of {len(programs)} programs in this branch none is under {own:.4g} ms, "
        f"and another idea from the same base led to {rival:.4g} ms"
    )


def nothing_left(leader: ImplementationView, floor_ms: float) -> str | None:
    """Why no search can go on from here: *leader* takes what moving its bytes once takes (*floor_ms*), which no kernel
    goes below."""
    if leader.time_ms is None or leader.time_ms > _FLOOR * floor_ms:
        return None
    return f"nothing is left to gain: {leader.time_ms:.4g} ms, and moving the bytes alone takes {floor_ms:.4g} ms"
