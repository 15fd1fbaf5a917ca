"""What strategies read off a snapshot. Pure functions of a TreeView; nothing is kept between calls."""

from __future__ import annotations

import re

from ..model import (
    Basis,
    EvaluationView,
    ImplementationView,
    JobKind,
    JobView,
    NodeState,
    NodeView,
    Outcome,
    TreeView,
)

#: Failures that a repair can act on: the message says what in the program is wrong.
REPAIRABLE = frozenset({Outcome.COMPILE_ERROR, Outcome.RUNTIME_ERROR, Outcome.WRONG_RESULT})

#: Where figures of several bases meet in one tree, the most trustworthy that has any is used, alone.
_TRUST = (Basis.MEASURED, Basis.PROJECTED, Basis.IMPORTED)


def by_address(address: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which ``r.10`` follows ``r.9``."""
    parts = re.findall(r"\d+|\D+", address)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


def nodes_of_round(view: TreeView, round_: int) -> tuple[NodeView, ...]:
    return tuple(sorted((n for n in view.nodes.values() if n.round == round_), key=lambda n: by_address(n.address)))


def verdict(view: TreeView, implementation: ImplementationView) -> EvaluationView | None:
    """Its evaluation, or that of the same program found earlier; None while neither is there."""
    seen = implementation
    while seen.evaluation is None and seen.duplicate_of is not None:
        seen = view.implementations[seen.duplicate_of]
    return seen.evaluation


def jobs_of(view: TreeView, *kinds: JobKind) -> tuple[JobView, ...]:
    """All jobs of these kinds, over or not, in the order in which they were planned."""
    return tuple(sorted((j for j in view.jobs if j.kind in kinds), key=lambda j: j.id))


def asked_variants(view: TreeView, node: int) -> frozenset[int]:
    """The variants of *node* that were ever asked for, whatever came of them."""
    return frozenset(
        int(j.payload.get("variant", 0)) for j in view.jobs if j.kind is JobKind.IMPLEMENT and j.node == node
    )


def busy_nodes(view: TreeView) -> frozenset[int]:
    """Nodes with a job in flight on themselves or on one of their implementations."""
    busy: set[int] = set()
    for job in view.in_flight():
        if job.node is not None:
            busy.add(job.node)
        if job.implementation is not None and job.implementation in view.implementations:
            busy.add(view.implementations[job.implementation].node)
    return frozenset(busy)


def repairs_before(view: TreeView, implementation: ImplementationView) -> int:
    """How many repairs lie between *implementation* and the first one of its chain."""
    count = 0
    while implementation.repair_of is not None:
        implementation = view.implementations[implementation.repair_of]
        count += 1
    return count


def time_of(view: TreeView, implementation: ImplementationView) -> float | None:
    """Milliseconds of one that passed, else None; a duplicate has the time of its program."""
    found = verdict(view, implementation)
    return found.time_ms if found is not None and found.outcome is Outcome.OK else None


def passed(view: TreeView, before_round: int | None = None) -> tuple[ImplementationView, ...]:
    """Implementations that passed and have a time, of one basis, fastest first; with *before_round*, earlier ones only.

    Of those with the same program the one of the earliest round and lowest address stands for all: not the one that
    arrived first, so that the order in which jobs finish changes nothing.
    """
    found: dict[str, tuple[Basis, float, ImplementationView]] = {}
    for i in sorted(view.implementations.values(), key=lambda i: place(view, i)):
        if before_round is not None and view.nodes[i.node].round >= before_round:
            continue
        judged = verdict(view, i)
        if judged is not None and judged.outcome is Outcome.OK and judged.time_ms is not None:
            found.setdefault(i.program, (judged.basis, judged.time_ms, i))
    for basis in _TRUST:
        same = [(time, i) for (b, time, i) in found.values() if b is basis]
        if same:
            return tuple(i for _, i in sorted(same, key=lambda pair: (pair[0], place(view, pair[1]))))
    return ()


def place(view: TreeView, implementation: ImplementationView) -> tuple[object, ...]:
    """A sort key: round, then tree address. Stable whatever the order in which jobs finished."""
    return (view.nodes[implementation.node].round, by_address(implementation.address))


def bank(view: TreeView, k: int, before_round: int | None = None) -> tuple[ImplementationView, ...]:
    """The best *k* that passed across rounds (those before *before_round*), on nodes that are not pruned."""
    found = passed(view, before_round)
    return tuple(i for i in found if view.nodes[i.node].state is NodeState.OPEN)[:k]
