"""What a proposer is told: a ProposalRequest built from the tree, for one job.

A request depends on the job and on earlier rounds only: of ideas in the job's own round the words are told, not what
came of them, so that the order in which the jobs of a round finish does not change what is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import NotFound
from ..model import EvaluationView, Idea, ImplementationView, JobKind, NodeView, Outcome, TreeView
from ..ports import Attempt, Job, ProposalRequest, SearchSpec
from ..strategies.fold import by_address, verdict

#: The text of a program by its hash (``Store.code``).
Code = Callable[[str], str]

#: What an evaluator saw besides outcome and time, by the evaluation's id (``Store.profile``).
Profile = Callable[[int], Mapping[str, Any]]

#: Options of a search that a proposer is told.
_TOLD = ("temperature", "max_output_tokens", "effort", "parts", "prompt_tokens", "require")

#: The root's idea: it stands for the reference itself, and no proposer is given it as an idea to carry out.
ROOT_IDEA = Idea("the reference, translated as it stands", "where every search starts", "reference")


def request_for(
    job: Job, view: TreeView, spec: SearchSpec, code: Code, profile: Profile = lambda evaluation: {}
) -> ProposalRequest:
    """The request for *job*; the ideas of a ``rate`` job are its ``tried``, in the order of its ratings.

    Raises NotFound where the job names a node or implementation that is not in the tree.
    """
    rated = [view.nodes[n] for n in job.payload.get("nodes", ()) if n in view.nodes]
    target = view.nodes[view.root] if job.kind is JobKind.RATE else _node(view, job)
    round_ = _round(job, target)
    base_id = job.payload.get("base") if job.kind is JobKind.IDEATE else target.base
    failed = _implementation(view, job.implementation) if job.kind is JobKind.REPAIR else None
    return ProposalRequest(
        kind=job.kind,
        key=job.key,
        problem=spec.problem,
        instance=spec.instance,
        target=spec.device.gpu,
        backend=str(spec.options.get("backend", "triton")),
        seed=stable_seed(view.seed, job.key),
        count=int(job.payload.get("count", 1)),
        idea=None if job.kind is JobKind.IDEATE or target.id == view.root else target.idea,
        variant=int(job.payload.get("variant", 0)),
        base=None if base_id is None else _attempt(view, _implementation(view, base_id), code, profile),
        others=tuple(
            _attempt(view, _implementation(view, other), code, profile) for other in job.payload.get("others", ())
        ),
        failed=None if failed is None else _attempt(view, failed, code, profile),
        earlier=() if failed is None else _chain(view, failed),
        lineage=tuple(n.idea for n in view.lineage(target.id) if n.id != view.root),
        tried=tuple(_summary(view, n, told=True) for n in rated)
        if job.kind is JobKind.RATE
        else tried(view, round_, besides=None if job.kind is JobKind.IDEATE else target.id),
        translation=_translation(view, round_),
        options={name: spec.options[name] for name in _TOLD if spec.options.get(name) is not None}
        | {"precision": spec.precision},
    )


def stable_seed(seed: int, key: str) -> int:
    """A seed of 63 bits from the search's seed and the job's key, the same on every machine and run."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8], "big") >> 1


def tried(view: TreeView, round_: int, besides: int | None = None) -> tuple[Attempt, ...]:
    """Every idea so far and the best that came of it, in tree order; without code. What failed says how."""
    nodes = [n for n in view.nodes.values() if n.id not in (view.root, besides)]
    nodes.sort(key=lambda n: (n.round, by_address(n.address)))
    return tuple(_summary(view, n, told=n.round < round_) for n in nodes if n.round <= round_)


def _summary(view: TreeView, node: NodeView, *, told: bool) -> Attempt:
    own = sorted(view.implementations_of(node.id), key=lambda i: by_address(i.address))
    judged = [v for v in (verdict(view, i) for i in own) if v is not None]
    if not told or not judged:
        return Attempt(node.idea, None, None, "", None, None, None)
    best = min(judged, key=lambda v: (v.outcome is not Outcome.OK, v.time_ms or float("inf")))
    return _of(node.idea, None, best)


def _translation(view: TreeView, round_: int) -> Attempt | None:
    """What the reference gave, translated as it stands: in later rounds, what an idea has to beat."""
    found = _summary(view, view.nodes[view.root], told=round_ > 0)
    return None if found.outcome is None else found


def _attempt(view: TreeView, implementation: ImplementationView, code: Code, profile: Profile) -> Attempt:
    found = verdict(view, implementation)
    attempt = _of(view.nodes[implementation.node].idea, code(implementation.program), found)
    return attempt if found is None else replace(attempt, profile=profile(found.id))


def _chain(view: TreeView, failed: ImplementationView) -> tuple[Attempt, ...]:
    """What *failed* was made from, and that from, oldest first, without code."""
    found: list[Attempt] = []
    at = failed.repair_of
    while at is not None and at in view.implementations:
        before = view.implementations[at]
        found.append(_of(view.nodes[before.node].idea, None, verdict(view, before)))
        at = before.repair_of
    return tuple(reversed(found))


def _of(idea: Idea, code: str | None, found: EvaluationView | None) -> Attempt:
    if found is None:
        return Attempt(idea, code, None, "", None, None, None)
    return Attempt(
        idea, code, found.outcome.value, found.message, found.time_ms, found.speedup.get("eager"), found.basis.value
    )


def _round(job: Job, node: NodeView) -> int:
    return int(job.payload["round"]) if "round" in job.payload else node.round


def _node(view: TreeView, job: Job) -> NodeView:
    node = view.nodes.get(job.node) if job.node is not None else None
    if node is None:
        raise NotFound(f"Job {job.key} is for node n{job.node}, which is not in search s{view.search}.")
    return node


def _implementation(view: TreeView, id_: int | None) -> ImplementationView:
    found = view.implementations.get(id_) if id_ is not None else None
    if found is None:
        raise NotFound(f"Implementation i{id_} is not in search s{view.search}.")
    return found
