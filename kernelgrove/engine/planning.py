"""Planning: from a snapshot to a strategy's actions, and from these to jobs with stable keys.

A key is built from tree addresses, never from ids, so that it is the same whatever the order in which independent
jobs finished, and a recorded completion is found by it again:

==========  ==================================================
ideate      ``ideate:<parent address>:<base address or ->:<n>``; each further base as ``+<address>``
implement   ``implement:<node address>:<variant>``
repair      ``repair:<implementation address>:<n>``
rate        ``rate:<node addresses, comma>:<n>``
remeasure   ``evaluate:<implementation address>:again-<n>`` (an ``evaluate`` job of a program that was judged)
==========  ==================================================

where *n* counts earlier jobs of the same prefix.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..model import (
    Action,
    Ideate,
    Implement,
    ImplementationView,
    JobKind,
    NodeState,
    Prune,
    Rate,
    Remeasure,
    Repair,
    Stop,
    TreeView,
)
from ..ports import PlannedJob, Strategy
from ..strategies.allocation import remeasurements
from ..strategies.fold import fold


class BrokenContract(Exception):
    """A strategy returned something it must not; the message says what."""


def decide(strategy: Strategy, view: TreeView, slots: int, rng: random.Random) -> list[Action]:
    """What to do next: measure again what is in doubt, then what *strategy* proposes for the slots that are left.

    A strategy that would stop is asked again once what is measured again is known. Raises BrokenContract for what is
    no sequence.
    """
    again = remeasurements(view, slots)
    left = slots - len(again)
    proposed = strategy.propose(view, left, rng) if left > 0 else []
    if not isinstance(proposed, Sequence) or isinstance(proposed, str):
        raise BrokenContract(f"propose returned {type(proposed).__name__}, and a sequence of actions is expected")
    wanted = [a for a in proposed if a not in again]
    return [*again, *(a for a in wanted if not (again and isinstance(a, Stop)))]


def plan(view: TreeView, actions: Sequence[Action], slots: int) -> list[PlannedJob]:
    """The jobs that *actions* ask for, in order. Raises BrokenContract for a missing or pruned node, an
    implementation that is not there, an implementation asked for twice, a re-measurement of what has not passed, or
    more than *slots* jobs."""
    taken = {job.key for job in view.jobs}
    pruned = {a.node for a in actions if isinstance(a, Prune)}
    jobs: list[PlannedJob] = []
    for action in actions:
        if isinstance(action, Prune):
            if action.node not in view.nodes or action.node == view.root:
                raise BrokenContract(f"it prunes node {action.node}, which is the root or not in the tree")
            continue
        if isinstance(action, Stop):
            continue
        for node in _nodes(view, action):
            if node not in view.nodes:
                raise BrokenContract(f"it acts on node {node}, which is not in the tree")
            if node in pruned or view.nodes[node].state is NodeState.PRUNED:
                raise BrokenContract(f"it acts on node {node}, which is pruned")
        job = _job(view, action, taken)
        if job.key in taken:
            raise BrokenContract(f"it asks twice for {job.key}")
        taken.add(job.key)
        jobs.append(job)
    if len(jobs) > slots:
        raise BrokenContract(f"it asks for {len(jobs)} jobs where {slots} may be planned")
    return jobs


def _nodes(view: TreeView, action: Action) -> tuple[int, ...]:
    if isinstance(action, Ideate):
        for base in (action.base, *action.others):
            if base is not None and base not in view.implementations:
                raise BrokenContract(f"it builds on implementation {base}, which is not in the tree")
        if action.count < 1:
            raise BrokenContract(f"it asks for {action.count} ideas")
        return (action.parent,)
    if isinstance(action, Implement):
        return (action.node,)
    if isinstance(action, Repair):
        if action.implementation not in view.implementations:
            raise BrokenContract(f"it repairs implementation {action.implementation}, which is not in the tree")
        return (view.implementations[action.implementation].node,)
    if isinstance(action, Remeasure):
        _passed(view, action.implementation)
        return ()  # of a pruned node too: nothing new is tried
    return action.nodes if isinstance(action, Rate) else ()


def _passed(view: TreeView, implementation: int) -> ImplementationView:
    found = view.implementations.get(implementation)
    if found is None or not found.ok:
        raise BrokenContract(f"it measures implementation {implementation} again, which has not passed")
    return found


def _job(view: TreeView, action: Action, taken: set[str]) -> PlannedJob:
    if isinstance(action, Ideate):
        base = "-" if action.base is None else view.implementations[action.base].address
        base += "".join(f"+{view.implementations[other].address}" for other in action.others)
        payload: dict[str, Any] = {
            "parent": action.parent,
            "base": action.base,
            "count": action.count,
            "round": action.round,
        }
        if action.others:
            payload["others"] = list(action.others)
        key = _numbered(f"{JobKind.IDEATE}:{view.nodes[action.parent].address}:{base}", taken)
        return PlannedJob(JobKind.IDEATE, key, payload, node=action.parent, implementation=action.base)
    if isinstance(action, Implement):
        key = f"{JobKind.IMPLEMENT}:{view.nodes[action.node].address}:{action.variant}"
        return PlannedJob(JobKind.IMPLEMENT, key, {"node": action.node, "variant": action.variant}, node=action.node)
    if isinstance(action, Repair):
        failed = view.implementations[action.implementation]
        key = _numbered(f"{JobKind.REPAIR}:{failed.address}", taken)
        payload = {"node": failed.node, "implementation": failed.id}
        return PlannedJob(JobKind.REPAIR, key, payload, node=failed.node, implementation=failed.id)
    if isinstance(action, Rate):
        addresses = ",".join(view.nodes[n].address for n in action.nodes)
        return PlannedJob(JobKind.RATE, _numbered(f"{JobKind.RATE}:{addresses}", taken), {"nodes": list(action.nodes)})
    if isinstance(action, Remeasure):
        found = _passed(view, action.implementation)
        prefix = f"{JobKind.EVALUATE}:{found.address}:again-"
        number = len(found.remeasured)  # jobs that are done are not in the view
        while f"{prefix}{number}" in taken:
            number += 1
        again = {"program": found.program, "again": True}
        return PlannedJob(JobKind.EVALUATE, f"{prefix}{number}", again, node=found.node, implementation=found.id)
    raise BrokenContract(f"{type(action).__name__} is not an action that becomes a job")


def _numbered(prefix: str, taken: set[str]) -> str:
    number = 0
    while f"{prefix}:{number}" in taken:
        number += 1
    return f"{prefix}:{number}"


def capacity(view: TreeView, calls: int, judging: int) -> int:
    """How many more jobs keep all threads busy, with about one evaluation waiting a thread: *calls* to proposers and
    *judging* evaluations run at once.

    Few jobs are planned ahead: a strategy that learns from results should not have decided everything before.
    """
    flying = fold(view).flying
    asked = sum(job.kind is not JobKind.EVALUATE for job in flying)
    return max(0, min(calls - asked, calls + 2 * judging - len(flying)))
