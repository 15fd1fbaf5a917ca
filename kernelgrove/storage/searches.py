"""Searches: rows from a SearchSpec and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, insert, select, update

from ..model import Basis, Device, Idea, Instance, NodeState, Problem, SearchStatus, StoppedBy
from ..ports import SearchRecord, SearchSpec
from .queries import missing
from .statements import Statement, adding
from .tables import DEVICE, NODE, PROBLEM, SEARCH


def create(connection: Connection, spec: SearchSpec, root: Idea, now: float) -> int:
    """A running search and its root node; returns the search's id."""
    values = {
        "name": spec.name,
        "problem_id": problem_id(connection, spec.problem),
        "problem_digest": spec.problem.digest,
        "device_id": device_id(connection, spec.device),
        "device_key": spec.device.key,
        "target": spec.device.gpu,
        "size_key": spec.instance.key,
        "instance": asdict(spec.instance),
        "strategy": spec.strategy,
        "strategy_options": dict(spec.strategy_options),
        "models": list(spec.models),
        "seed": spec.seed,
        "precision": spec.precision,
        "tolerance": spec.tolerance,
        "protocol": spec.protocol,
        "options": dict(spec.options),
        "status": str(SearchStatus.RUNNING),
        "stopped_by": None,
        "note": "",
        "created_at": now,
        "elapsed_s": 0.0,
    }
    search = connection.execute(insert(SEARCH).values(**values).returning(SEARCH.c.id)).scalar_one()
    connection.execute(
        insert(NODE).values(
            search_id=search,
            address="r",
            round=0,
            idea=root.text,
            rationale=root.rationale,
            category=root.category,
            state=str(NodeState.OPEN),
            model="",
            created_at=now,
        )
    )
    return int(search)


def problem_id(connection: Connection, problem: Problem) -> int:
    """The row that is exactly this problem; the same text under another name or path is another row."""
    values = {
        "digest": problem.digest,
        "name": problem.name,
        "source": problem.source,
        "path": problem.path,
        "sizes": {name: dict(sizes) for name, sizes in problem.sizes.items()},
        "precision": problem.precision,
        "mode": problem.mode,
    }
    same = [PROBLEM.c[name].is_not_distinct_from(value) for name, value in values.items() if name != "source"]
    found = connection.execute(select(PROBLEM.c.id).where(*same).limit(1)).scalar()
    if found is None:
        found = connection.execute(insert(PROBLEM).values(**values).returning(PROBLEM.c.id)).scalar_one()
    return int(found)


_DEVICE = Statement(
    select(DEVICE.c.id).where(
        *(
            DEVICE.c[name] == bindparam(name, type_=DEVICE.c[name].type)
            for name in ("name", "gpu", "key", "basis", "software")
        )
    )
)
_ADD_DEVICE = adding(DEVICE)


def device_id(connection: Connection, device: Device) -> int:
    """The row of this device with this software, made if it is new."""
    values = {
        "name": device.name,
        "gpu": device.gpu,
        "key": device.key,
        "basis": str(device.basis),
        "software": dict(sorted(device.software.items())),
    }
    found: int | None = _DEVICE.value(connection, **values)
    return _ADD_DEVICE.value(connection, **values) if found is None else found


def load(connection: Connection, search: int) -> SearchRecord:
    """Raises NotFound."""
    row = connection.execute(select(SEARCH).where(SEARCH.c.id == search)).mappings().first()
    if row is None:
        raise missing(connection, search)
    problem = connection.execute(select(PROBLEM).where(PROBLEM.c.id == row["problem_id"])).mappings().one()
    device = connection.execute(select(DEVICE).where(DEVICE.c.id == row["device_id"])).mappings().one()
    spec = SearchSpec(
        problem=_problem(problem),
        instance=Instance(**row["instance"]),
        device=_device(device),
        strategy=row["strategy"],
        strategy_options=row["strategy_options"],
        models=tuple(row["models"]),
        seed=row["seed"],
        name=row["name"],
        precision=row["precision"],
        tolerance=row["tolerance"],
        protocol=row["protocol"],
        options=row["options"],
    )
    return SearchRecord(
        id=search,
        spec=spec,
        status=SearchStatus(row["status"]),
        stopped_by=None if row["stopped_by"] is None else StoppedBy(row["stopped_by"]),
        created_at=row["created_at"],
        elapsed_s=row["elapsed_s"],
        note=row["note"],
    )


def _problem(row: RowMapping) -> Problem:
    return Problem(
        name=row["name"],
        source=row["source"],
        path=row["path"],
        sizes=row["sizes"],
        precision=row["precision"],
        mode=row["mode"],
    )


def _device(row: RowMapping) -> Device:
    return Device(name=row["name"], gpu=row["gpu"], key=row["key"], basis=Basis(row["basis"]), software=row["software"])


def update_search(connection: Connection, search: int, **values: Any) -> None:
    """Raises NotFound."""
    if connection.execute(update(SEARCH).where(SEARCH.c.id == search).values(**values)).rowcount == 0:
        raise missing(connection, search)


def take(connection: Connection, seen: SearchRecord, owner: str) -> bool:
    """Running, for *owner*, if nothing has changed how it stands since it was *seen*."""
    as_seen = and_(
        SEARCH.c.id == seen.id,
        SEARCH.c.status == str(seen.status),
        SEARCH.c.stopped_by.is_not_distinct_from(None if seen.stopped_by is None else str(seen.stopped_by)),
        SEARCH.c.note == seen.note,
    )
    running = {"status": str(SearchStatus.RUNNING), "stopped_by": None, "note": owner}
    return connection.execute(update(SEARCH).where(as_seen).values(running)).rowcount == 1


def add_elapsed(connection: Connection, search: int, seconds: float) -> None:
    """Raises NotFound."""
    update_search(connection, search, elapsed_s=SEARCH.c.elapsed_s + max(0.0, seconds))
