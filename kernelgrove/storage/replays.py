"""Evaluations that no job asked for: a replay's. Functions of a connection; ``add`` needs a write transaction.

A replay adds evaluations beside those of the search and changes nothing else: an implementation's own evaluation, and
with it the tree and the best of its search, stay what they were.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, or_, select

from ..errors import NotFound, StoreError
from ..model import DETERMINISTIC, Device, EvaluationRequest, Outcome
from ..ports import EvaluatedResult
from .evaluations import insert_evaluation
from .tables import DEVICE, EVALUATION, IMPLEMENTATION, SEARCH


def _where(connection: Connection, implementation: int) -> tuple[int, str, str]:
    """The search, the program and the problem's digest of *implementation*. Raises NotFound."""
    row = connection.execute(
        select(IMPLEMENTATION.c.search_id, IMPLEMENTATION.c.program, SEARCH.c.problem_digest)
        .join(SEARCH, SEARCH.c.id == IMPLEMENTATION.c.search_id)
        .where(IMPLEMENTATION.c.id == implementation)
    ).first()
    if row is None:
        raise NotFound(f"There is no implementation i{implementation} in this database.", "See `kernelgrove tree`.")
    return row.search_id, row.program, row.problem_digest


def add(
    connection: Connection,
    implementation: int,
    request: EvaluationRequest,
    protocol: int,
    ended: EvaluatedResult,
    now: float,
) -> int:
    """What came of evaluating *implementation* as *request* says; the new evaluation's id. Raises NotFound, and
    StoreError where the request is of another problem than the search."""
    search, program, digest = _where(connection, implementation)
    if request.instance.digest != digest:
        raise StoreError(
            f"i{implementation} was written for another problem than {request.instance.name}:",
            "an evaluation is kept with the problem it was made on.",
        )
    return insert_evaluation(
        connection,
        ended,
        now,
        search_id=search,
        implementation_id=implementation,
        job_id=None,
        program=program,
        problem_digest=digest,
        size_key=request.instance.key,
        precision=request.precision,
        tolerance=request.tolerance,
        protocol=protocol,
    ).id


def find(
    connection: Connection, implementation: int, request: EvaluationRequest, protocol: int, device: Device
) -> int | None:
    """The newest evaluation that a replay added for this program under the same key, on this device with the same
    software, where its outcome is one that would come again. Only reads. Raises NotFound."""
    _, program, digest = _where(connection, implementation)
    same = and_(
        EVALUATION.c.job_id.is_(None),
        EVALUATION.c.program == program,
        EVALUATION.c.problem_digest == digest,
        EVALUATION.c.size_key == request.instance.key,
        EVALUATION.c.precision == request.precision,
        EVALUATION.c.tolerance.is_not_distinct_from(request.tolerance),
        EVALUATION.c.protocol == protocol,
        EVALUATION.c.basis == str(device.basis),
        EVALUATION.c.outcome.in_([str(outcome) for outcome in DETERMINISTIC]),
        or_(EVALUATION.c.outcome != str(Outcome.OK), EVALUATION.c.time_ms.is_not(None)),
        DEVICE.c.name == device.name,
        DEVICE.c.gpu == device.gpu,
        DEVICE.c.key == device.key,
        DEVICE.c.basis == str(device.basis),
        DEVICE.c.software == dict(sorted(device.software.items())),
    )
    found = connection.execute(
        select(EVALUATION.c.id)
        .join(DEVICE, DEVICE.c.id == EVALUATION.c.device_id)
        .where(same)
        .order_by(EVALUATION.c.id.desc())
        .limit(1)
    ).scalar()
    return None if found is None else int(found)
