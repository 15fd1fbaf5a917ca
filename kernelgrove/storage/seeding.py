"""A new search that begins with what survived a replay: ``resume --from-replay``.

A search stays on the device that it was started on, so going on elsewhere is a new search. Its tree has the survivors
below the root, each under the nearest ancestor that survived too, with the replay's evaluations as their own: nothing
is judged again, and every strategy finds them as it finds what an earlier round made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from ..model import DETERMINISTIC, Device, EvaluationRequest, Idea, JobKind, JobState, NodeState, Outcome, TreeView
from ..ports import PlannedJob, SearchSpec
from . import searches
from .evaluations import VERDICT, Known, verdict_columns
from .jobs import queue
from .statements import Statement, adding
from .tables import EVALUATION, IMPLEMENTATION, JOB, NODE


@dataclass(frozen=True)
class Survivor:
    """An implementation of the search that is gone on from, of its *node* there, and the replay's *evaluation* of it.
    *parent* is the node of an earlier survivor, under which its idea hangs; *base* an earlier survivor, on which the
    idea builds. None: the root, the reference."""

    implementation: int
    node: int
    idea: Idea
    model: str
    program: str
    evaluation: int
    parent: int | None
    base: int | None


# The newest of each program by a replay, under the rules that the new search will judge by.
_REPLAYED = Statement(
    select(EVALUATION.c.id, EVALUATION.c.program, EVALUATION.c.outcome, EVALUATION.c.time_ms)
    .where(
        EVALUATION.c.search_id == bindparam("search"),
        EVALUATION.c.job_id.is_(None),
        EVALUATION.c.problem_digest == bindparam("digest"),
        EVALUATION.c.size_key == bindparam("size"),
        EVALUATION.c.device_key == bindparam("device"),
        EVALUATION.c.target == bindparam("gpu"),
        EVALUATION.c.basis == bindparam("basis"),
        EVALUATION.c.precision == bindparam("precision"),
        EVALUATION.c.tolerance.is_not_distinct_from(bindparam("tolerance", type_=EVALUATION.c.tolerance.type)),
        EVALUATION.c.protocol == bindparam("protocol"),
    )
    .order_by(EVALUATION.c.id)
)


def survivors(
    connection: Connection, view: TreeView, request: EvaluationRequest, protocol: int, device: Device
) -> list[Survivor]:
    """What passed the newest replay on *device* by the rules of *request*, in the order of the tree *view*."""
    newest: dict[str, int] = {}
    rows = _REPLAYED.rows(
        connection,
        search=view.search,
        digest=request.instance.digest,
        size=request.instance.key,
        device=device.key,
        gpu=device.gpu,
        basis=str(device.basis),
        precision=request.precision,
        tolerance=request.tolerance,
        protocol=protocol,
    )
    for id_, program, outcome, time_ms in rows:
        if outcome == Outcome.OK and time_ms is not None:
            newest[program] = id_
        elif Outcome(outcome) in DETERMINISTIC:
            newest.pop(program, None)
    passed = {
        made.id: newest[made.program]
        for made in view.implementations.values()
        if made.duplicate_of is None and made.program in newest
    }
    return [_survivor(view, id_, evaluation, passed) for id_, evaluation in passed.items()]


def _survivor(view: TreeView, implementation: int, evaluation: int, passed: Mapping[int, int]) -> Survivor:
    made = view.implementations[implementation]
    node = view.nodes[made.node]
    return Survivor(
        implementation,
        node.id,
        node.idea,
        made.model,
        made.program,
        evaluation,
        parent=_above(view, implementation, passed),
        base=_built_on(view, implementation, passed),
    )


def _above(view: TreeView, implementation: int, passed: Mapping[int, int]) -> int | None:
    """The nearest node above with a survivor that is older than this one."""
    at = view.nodes[view.implementations[implementation].node].parent
    while at is not None and at != view.root:
        if any(made.id in passed and made.id < implementation for made in view.implementations_of(at)):
            return at
        at = view.nodes[at].parent
    return None


def _built_on(view: TreeView, implementation: int, passed: Mapping[int, int]) -> int | None:
    """The nearest survivor that it was made from: repaired, or built on."""
    seen = {implementation}
    at: int | None = implementation
    while at is not None:
        made = view.implementations[at]
        at = made.repair_of if made.repair_of is not None else view.nodes[made.node].base
        at = None if at is None else view.implementations[at].duplicate_of or at
        if at in seen:
            return None
        if at is not None:
            seen.add(at)
            if at in passed and at < implementation:
                return at
    return None


_NODE, _IMPLEMENTATION = adding(NODE), adding(IMPLEMENTATION)
_DONE = Statement(
    JOB.update()
    .where(JOB.c.id == bindparam("job"))
    .values(
        state=str(JobState.DONE),
        finished_at=bindparam("now"),
        model=bindparam("by", type_=JOB.c.model.type),
        note="from a replay",
    )
)


def create(connection: Connection, spec: SearchSpec, root: Idea, seeds: Sequence[Survivor], now: float) -> int:
    """A running search as *spec* says, with *seeds* in its tree; returns its id. Each has the jobs that would have made
    it, done, so that strategies see what was asked for and later addresses follow on."""
    search = searches.create(connection, spec, root, now)
    root_id = connection.execute(select(NODE.c.id).where(NODE.c.search_id == search)).scalar_one()
    places: dict[int | None, tuple[int, str]] = {None: (root_id, "r")}  # by the node of the search before
    variants: dict[int, int] = {}
    made: dict[int | None, int | None] = {None: None}
    for seed in seeds:
        if seed.node not in places:
            places[seed.node] = _add_node(connection, search, seed, places[seed.parent], made[seed.base], now)
        node, address = places[seed.node]
        variant = variants[seed.node] = variants.get(seed.node, -1) + 1
        written = {"node": node, "variant": variant}
        key = f"implement:{address}:{variant}"
        job = _done(connection, search, PlannedJob(JobKind.IMPLEMENT, key, written, node), seed, now)
        verdict = VERDICT.first(connection, evaluation=seed.evaluation)
        assert verdict is not None
        made[seed.implementation] = _IMPLEMENTATION.value(
            connection,
            search_id=search,
            node_id=node,
            address=f"{address}/{variant}",
            repair_of=None,
            duplicate_of=None,
            program=seed.program,
            model=seed.model,
            note=f"i{seed.implementation}, which passed a replay",
            job_id=job,
            created_at=now,
            **verdict_columns(Known(*verdict)),
        )
    return search


def _add_node(
    connection: Connection, search: int, seed: Survivor, under: tuple[int, str], base: int | None, now: float
) -> tuple[int, str]:
    """Its id and address."""
    parent, above = under
    asked = {"parent": parent, "base": base, "count": 1, "round": 0}
    planned = PlannedJob(JobKind.IDEATE, f"ideate:{above}:survivor:{seed.node}", asked, parent)
    job = _done(connection, search, planned, seed, now)
    ordinal = connection.execute(select(JOB.c.ordinal).where(JOB.c.id == job)).scalar_one()
    address = f"{above}.{ordinal}-0"
    node = _NODE.value(
        connection,
        search_id=search,
        parent_id=parent,
        base_id=base,
        address=address,
        round=0,
        idea=seed.idea.text,
        rationale=seed.idea.rationale,
        category=seed.idea.category,
        state=str(NodeState.OPEN),
        pruned_because=None,
        rating=None,
        model=seed.model,
        job_id=job,
        created_at=now,
    )
    return node, address


def _done(connection: Connection, search: int, planned: PlannedJob, seed: Survivor, now: float) -> int:
    job = queue(connection, search, planned, now)
    _DONE.change(connection, job=job, now=now, by=seed.model)
    return job
