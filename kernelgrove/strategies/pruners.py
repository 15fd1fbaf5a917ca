"""Pruners: each gives a reason to expand a node no further, or None. Pure; a strategy decides which to ask, when.

A pruned node keeps its implementations and figures; only nothing more is asked of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..model import Action, Basis, ImplementationView, NodeState, NodeView, Outcome, Prune, TreeView
from .fold import busy_nodes, verdict


@dataclass(frozen=True)
class Limits:
    """*hopeless*: times the best time past which a node is given up; *failures*: how many equal failures."""

    hopeless: float = 4.0
    failures: int = 3


def prune(
    view: TreeView,
    nodes: Iterable[NodeView],
    keep: Collection[int],
    best: ImplementationView | None,
    limits: Limits,
) -> list[Action]:
    """Prune actions for those of *nodes* that are open, judged, without work in flight, and not in *keep*.

    *best* is what "hopeless" is measured against. The root is never pruned: it is the reference.
    """
    busy = busy_nodes(view)
    found: list[Action] = []
    for node in nodes:
        if node.id == view.root or node.state is not NodeState.OPEN or node.id in keep or node.id in busy:
            continue
        reason = (
            same_failure(view, node, limits.failures)
            or hopeless(view, node, best, limits.hopeless)
            or no_improvement(view, node)
        )
        if reason:
            found.append(Prune(node.id, reason))
    return found


def hopeless(view: TreeView, node: NodeView, best: ImplementationView | None, factor: float) -> str | None:
    """The node's best is more than *factor* times slower than *best*, on the same basis."""
    own = _fastest(view, view.implementations_of(node.id))
    limit = _fastest(view, [best] if best else [])
    if own is None or limit is None or own[0] is not limit[0] or own[1] <= factor * limit[1]:
        return None
    return f"hopeless: {own[1]:.4g} ms, {own[1] / limit[1]:.1f} times the best ({limit[1]:.4g} ms)"


def same_failure(view: TreeView, node: NodeView, at_least: int) -> str | None:
    """Nothing passed, and at least *at_least* implementations all ended the same way."""
    verdicts = [verdict(view, i) for i in view.implementations_of(node.id)]
    outcomes = {v.outcome for v in verdicts if v is not None}
    judged = sum(v is not None for v in verdicts)
    if judged < at_least or len(outcomes) != 1 or Outcome.OK in outcomes:
        return None
    return f"same failure: all {judged} implementations ended in {outcomes.pop().value}"


def no_improvement(view: TreeView, node: NodeView) -> str | None:
    """The node's best is no faster than the implementation that its idea builds on."""
    own = _fastest(view, view.implementations_of(node.id))
    base = _fastest(view, [view.implementations[node.base]] if node.base is not None else [])
    if own is None or base is None or own[0] is not base[0] or own[1] < base[1]:
        return None
    return f"no improvement: {own[1]:.4g} ms, and its base takes {base[1]:.4g} ms"


def _fastest(view: TreeView, implementations: Iterable[ImplementationView]) -> tuple[Basis, float] | None:
    """Basis and milliseconds of the fastest that passed. A time of zero cannot be compared and does not count."""
    found = [v for v in (verdict(view, i) for i in implementations) if v is not None and v.outcome is Outcome.OK]
    return min(((v.basis, v.time_ms) for v in found if v.time_ms), key=lambda pair: pair[1], default=None)
