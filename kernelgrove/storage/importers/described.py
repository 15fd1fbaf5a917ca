"""A search as another program's file describes it, and how it becomes rows.

Every figure written here is a claim of that file: its basis is ``imported`` whatever the file says, its device row is
of that basis too, and its protocol is 0, which no evaluator of ours has. So it is never compared with, ranked among,
or reused as a figure that was measured or projected here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ...model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Instance,
    NodeState,
    Problem,
    SearchStatus,
    StoppedBy,
)
from ...ports import EvaluatedResult, SearchSpec
from .. import searches
from ..columns import clean
from ..evaluations import insert_evaluation, verdict_columns
from ..programs import program_hash
from ..store import SqliteStore
from ..tables import IMPLEMENTATION, NODE, PROBLEM, PROGRAM, SEARCH
from .placeholder import attached

#: What an importer's search says where its file names no device.
UNKNOWN = "unknown"
PROTOCOL = 0

ROOT = "root"  # the key of the root node, which every search has


@dataclass(frozen=True)
class DescribedNode:
    """An idea. ``parent`` and ``base`` are keys of a node and an implementation that come earlier in the search."""

    key: str
    idea: Idea
    round: int
    parent: str = ROOT
    base: str | None = None


@dataclass(frozen=True)
class DescribedImplementation:
    """A program of the node ``node``; ``claim`` is what the file says came of it, None where it does not."""

    key: str
    node: str
    code: str
    claim: EvaluationResult | None
    device: str | None = None  # as claimed for this one; None: the search's
    note: str = ""


@dataclass(frozen=True)
class Described:
    """A whole search. *steps* are in an order in which everything comes after what it builds on."""

    problem: Problem
    name: str | None
    strategy: str
    models: tuple[str, ...]
    device: str | None
    steps: Sequence[DescribedNode | DescribedImplementation]
    origin: Mapping[str, Any] = field(default_factory=dict)  # JSON: what else the file says


@dataclass(frozen=True)
class Imported:
    """What became of a file: ids of its searches, whether they were here before, and those given a reference."""

    searches: tuple[int, ...]
    already: bool = False
    attached: tuple[int, ...] = ()


def claimed_device(name: str | None) -> Device:
    """The device that a file claims; its key never equals that of a device that we measured on."""
    name = name or UNKNOWN
    return Device(name=name, gpu=name, key=f"{name} (claimed)", basis=Basis.IMPORTED)


def write(store: SqliteStore, described: Sequence[Described], sha256: str, file: str) -> Imported:
    """Write all searches of one file in one transaction.

    *sha256* is the file's: a file that is here already is not written again, but a search of it that lacks its
    reference gets the one of *described*, if that has one.
    """
    with store.write() as connection:
        before = _of_file(connection, sha256)
        if before:
            by_problem = {one.origin["entry"]: one.problem for one in described}
            given = tuple(
                search for search, entry in before.items() if _attach(connection, search, by_problem.get(entry))
            )
            return Imported(tuple(before), already=True, attached=given)
        now = time.time()
        return Imported(
            tuple(
                _write_one(connection, replace(one, origin={"file": file, "sha256": sha256, **one.origin}), now)
                for one in described
            )
        )


def _of_file(connection: Connection, sha256: str) -> dict[int, str]:
    """search -> its entry in the file, for the searches that the file became."""
    found = connection.execute(select(SEARCH.c.id, SEARCH.c.options).where(SEARCH.c.protocol == PROTOCOL)).all()
    ours = ((row.id, row.options.get("imported")) for row in found)
    return {id_: origin["entry"] for id_, origin in ours if origin and origin.get("sha256") == sha256}


def _attach(connection: Connection, search: int, problem: Problem | None) -> bool:
    """Give *search* its reference, where it has none yet. Its evaluations stay as they are: facts."""
    if problem is None or not attached(problem.source):
        return False
    here = connection.execute(
        select(PROBLEM.c.source).join(SEARCH, SEARCH.c.problem_id == PROBLEM.c.id).where(SEARCH.c.id == search)
    ).scalar_one()
    if attached(here):
        return False
    spec = replace(searches.load(connection, search).spec, problem=problem, instance=instance_of(problem))
    connection.execute(
        update(SEARCH)
        .where(SEARCH.c.id == search)
        .values(
            problem_id=searches.problem_id(connection, problem),
            problem_digest=problem.digest,
            size_key=spec.instance.key,
            instance=asdict(spec.instance),
        )
    )
    return True


def instance_of(problem: Problem) -> Instance:
    """The problem as its file is written: other programs know no named sizes."""
    return Instance(problem.name, problem.digest, "given", problem.source, "given", problem.source, problem.mode)


def _write_one(connection: Connection, one: Described, now: float) -> int:
    spec = SearchSpec(
        problem=one.problem,
        instance=instance_of(one.problem),
        device=claimed_device(one.device),
        strategy=one.strategy,
        strategy_options={},
        models=one.models,
        seed=0,
        name=one.name,
        protocol=PROTOCOL,
        options={"imported": dict(one.origin)},
    )
    search = searches.create(
        connection, spec, Idea("the reference, translated as it stands", "where every search starts", "reference"), now
    )
    searches.update_search(
        connection,
        search,
        status=str(SearchStatus.FINISHED),
        stopped_by=str(StoppedBy.STRATEGY),
        note=f"imported from {one.origin['file']}",
    )
    root = connection.execute(select(NODE.c.id).where(NODE.c.search_id == search)).scalar_one()
    places = _Places(search, {ROOT: (root, "r")})
    for step in one.steps:
        if isinstance(step, DescribedNode):
            places.add_node(connection, step, one.models, now)
        else:
            places.add_implementation(connection, step, spec, now)
    return search


@dataclass
class _Places:
    """Where the steps of a search lie: key -> (id, address)."""

    search: int
    nodes: dict[str, tuple[int, str]]
    implementations: dict[str, int] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    variants: dict[str, int] = field(default_factory=dict)

    def add_node(self, connection: Connection, step: DescribedNode, models: tuple[str, ...], now: float) -> None:
        parent, address = self.nodes[step.parent]
        index = self.children[step.parent] = self.children.get(step.parent, -1) + 1
        place = f"{address}.0-{index}"
        values = {
            "search_id": self.search,
            "parent_id": parent,
            "base_id": None if step.base is None else self.implementations[step.base],
            "address": place,
            "round": step.round,
            "idea": step.idea.text,
            "rationale": step.idea.rationale,
            "category": step.idea.category,
            "state": str(NodeState.OPEN),
            "model": ", ".join(models),
            "created_at": now,
        }
        made = connection.execute(insert(NODE).values(**values).returning(NODE.c.id)).scalar_one()
        self.nodes[step.key] = (made, place)

    def add_implementation(
        self, connection: Connection, step: DescribedImplementation, spec: SearchSpec, now: float
    ) -> None:
        """Two kernels with the same text stay two implementations, each with its own claim: they may differ."""
        node, address = self.nodes[step.node]
        variant = self.variants[step.node] = self.variants.get(step.node, -1) + 1
        program = program_hash(step.code)
        if connection.execute(select(PROGRAM.c.id).where(PROGRAM.c.hash == program)).first() is None:
            connection.execute(insert(PROGRAM).values(hash=program, code=clean(step.code), created_at=now))
        made = connection.execute(
            insert(IMPLEMENTATION)
            .values(
                search_id=self.search,
                node_id=node,
                address=f"{address}/{variant}",
                program=program,
                model=", ".join(spec.models),
                note=step.note,
                created_at=now,
            )
            .returning(IMPLEMENTATION.c.id)
        ).scalar_one()
        self.implementations[step.key] = made
        if step.claim is not None:
            device = spec.device if step.device is None else claimed_device(step.device)
            judged = insert_evaluation(
                connection,
                EvaluatedResult(replace(step.claim, basis=Basis.IMPORTED), device),  # whatever the file says
                now,
                search_id=self.search,
                implementation_id=made,
                job_id=None,
                program=program,
                problem_digest=spec.problem.digest,
                size_key=spec.instance.key,
                precision=spec.precision,
                tolerance=None,
                protocol=PROTOCOL,
            )
            connection.execute(
                update(IMPLEMENTATION).where(IMPLEMENTATION.c.id == made).values(verdict_columns(judged))
            )
