"""What a finished job leaves behind: nodes, an implementation, an evaluation or ratings, in the transaction that ends
the job. Functions of a connection with a write transaction open, unless they say they only read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from ..errors import NotFound, StoreError
from ..model import DETERMINISTIC, EvaluationView, JobKind, JobState, NodeState, Outcome
from ..ports import CodeResult, EvaluatedResult, IdeasResult, Job, JobResult, PlannedJob, RatedResult
from .columns import clean
from .jobs import LEASED, QUEUED, held, queue
from .programs import program_hash
from .queries import missing
from .searches import device_id
from .snapshot import evaluation
from .tables import DEVICE, EVALUATION, IMPLEMENTATION, JOB, NODE, PROGRAM, SEARCH

_ENDS: dict[type, tuple[JobKind, ...]] = {
    IdeasResult: (JobKind.IDEATE,),
    CodeResult: (JobKind.IMPLEMENT, JobKind.REPAIR),
    EvaluatedResult: (JobKind.EVALUATE,),
    RatedResult: (JobKind.RATE,),
}


@dataclass(frozen=True)
class Prepared:
    """A result with what is worked out before the write lock is taken: the program's hash."""

    result: JobResult
    program: str | None = None


def prepare(result: JobResult) -> Prepared:
    return Prepared(result, program_hash(result.code) if isinstance(result, CodeResult) else None)


def finish(connection: Connection, job: Job, prepared: Prepared, now: float) -> bool:
    """End *job* with its result. False, and nothing written, when its lease was lost. Raises StoreError when the
    result is not of the job's kind."""
    result = prepared.result
    if job.kind not in _ENDS[type(result)]:
        raise StoreError(f"A job of kind {job.kind} cannot end with {type(result).__name__}.")
    model = "" if isinstance(result, EvaluatedResult) else result.model
    note = result.note if isinstance(result, (IdeasResult, CodeResult)) else ""
    row = connection.execute(
        update(JOB)
        .where(held(job))
        .values(state=str(JobState.DONE), lease_until=None, finished_at=now, model=model, note=note)
        .returning(*JOB.c)
    ).first()
    if row is None:
        return False
    match result:
        case IdeasResult():
            _add_ideas(connection, row, result, now)
        case CodeResult():
            assert prepared.program is not None
            _add_implementation(connection, row, result, prepared.program, now)
        case EvaluatedResult():
            _add_evaluation(connection, row, result, now)
        case RatedResult():
            for node, rating in result.ratings.items():
                connection.execute(
                    update(NODE).where(NODE.c.id == node, NODE.c.search_id == row.search_id).values(rating=rating)
                )
    return True


def _refuse(connection: Connection, job: Any, reason: str) -> None:
    """The job ends without its result: taking it would break the tree."""
    connection.execute(update(JOB).where(JOB.c.id == job.id).values(state=str(JobState.FAILED), reason=reason))


# --------------------------------------------------------------------------------------------------- ideas


def _add_ideas(connection: Connection, job: Any, result: IdeasResult, now: float) -> None:
    parent = connection.execute(
        select(NODE.c.address, NODE.c.round).where(NODE.c.id == job.node_id, NODE.c.search_id == job.search_id)
    ).one()
    rows = [
        {
            "search_id": job.search_id,
            "parent_id": job.node_id,
            "base_id": job.payload.get("base"),
            "address": f"{parent.address}.{job.ordinal}-{index}",
            "round": job.payload.get("round", parent.round + 1),
            "idea": idea.text,
            "rationale": idea.rationale,
            "category": idea.category,
            "state": str(NodeState.OPEN),
            "model": result.model,
            "job_id": job.id,
            "created_at": now,
        }
        for index, idea in enumerate(result.ideas)
    ]
    if rows:
        connection.execute(insert(NODE), rows)


# ------------------------------------------------------------------------------------------ implementations


def _add_implementation(connection: Connection, job: Any, result: CodeResult, program: str, now: float) -> None:
    node, address = _place(connection, job)
    if connection.execute(
        select(IMPLEMENTATION.c.id).where(
            IMPLEMENTATION.c.search_id == job.search_id, IMPLEMENTATION.c.address == address
        )
    ).first():
        _refuse(connection, job, f"{address} was implemented by another job already")
        return
    _add_program(connection, program, result.code, now)
    first = connection.execute(
        select(IMPLEMENTATION.c.id, IMPLEMENTATION.c.evaluation_id)
        .where(IMPLEMENTATION.c.search_id == job.search_id, IMPLEMENTATION.c.program == program)
        .order_by(IMPLEMENTATION.c.id)
        .limit(1)
    ).first()
    if first is not None:
        evaluation = first.evaluation_id
    else:
        known = known_evaluation(connection, job.search_id, program)
        evaluation = None if known is None else known.id
    implementation = connection.execute(
        insert(IMPLEMENTATION)
        .values(
            search_id=job.search_id,
            node_id=node,
            address=address,
            repair_of=job.implementation_id if job.kind == JobKind.REPAIR else None,
            duplicate_of=None if first is None else first.id,
            program=program,
            evaluation_id=evaluation,
            model=result.model,
            note=result.note,
            job_id=job.id,
            created_at=now,
        )
        .returning(IMPLEMENTATION.c.id)
    ).scalar_one()
    if evaluation is None and not _being_evaluated(connection, job.search_id, program):
        wanted = PlannedJob(
            kind=JobKind.EVALUATE,
            key=f"evaluate:{address}",
            payload={"program": program},
            node=node,
            implementation=implementation,
        )
        queue(connection, job.search_id, wanted, now)


def _place(connection: Connection, job: Any) -> tuple[int, str]:
    """The node and the address of the implementation that *job* makes."""
    if job.kind == JobKind.REPAIR:
        failed = connection.execute(
            select(IMPLEMENTATION.c.node_id, IMPLEMENTATION.c.address).where(
                IMPLEMENTATION.c.id == job.implementation_id, IMPLEMENTATION.c.search_id == job.search_id
            )
        ).one()
        return failed.node_id, f"{failed.address}r{job.ordinal}"
    address = connection.execute(
        select(NODE.c.address).where(NODE.c.id == job.node_id, NODE.c.search_id == job.search_id)
    ).scalar_one()
    return job.node_id, f"{address}/{job.payload.get('variant', 0)}"


def _add_program(connection: Connection, program: str, code: str, now: float) -> None:
    if connection.execute(select(PROGRAM.c.id).where(PROGRAM.c.hash == program)).first() is None:
        connection.execute(insert(PROGRAM).values(hash=program, code=clean(code), created_at=now))


def _being_evaluated(connection: Connection, search: int, program: str) -> bool:
    found = connection.execute(
        select(JOB.c.id)
        .join(IMPLEMENTATION, IMPLEMENTATION.c.id == JOB.c.implementation_id)
        .where(
            JOB.c.kind == str(JobKind.EVALUATE),
            JOB.c.state.in_([QUEUED, LEASED]),
            IMPLEMENTATION.c.search_id == search,
            IMPLEMENTATION.c.program == program,
        )
        .limit(1)
    ).first()
    return found is not None


# ---------------------------------------------------------------------------------------------- evaluations


def _add_evaluation(connection: Connection, job: Any, ended: EvaluatedResult, now: float) -> None:
    program = connection.execute(
        select(IMPLEMENTATION.c.program).where(IMPLEMENTATION.c.id == job.implementation_id)
    ).scalar()
    if program is None:
        raise NotFound(f"Job t{job.id} evaluates no implementation of this database.")
    search = connection.execute(select(SEARCH).where(SEARCH.c.id == job.search_id)).one()
    evaluation = insert_evaluation(
        connection,
        ended,
        now,
        search_id=job.search_id,
        implementation_id=job.implementation_id,
        job_id=job.id,
        program=program,
        problem_digest=search.problem_digest,
        size_key=search.size_key,
        precision=search.precision,
        tolerance=search.tolerance,
        protocol=search.protocol,
    )
    connection.execute(
        update(IMPLEMENTATION)
        .where(
            IMPLEMENTATION.c.search_id == job.search_id,
            IMPLEMENTATION.c.program == program,
            IMPLEMENTATION.c.evaluation_id.is_(None),
        )
        .values(evaluation_id=evaluation)
    )


def insert_evaluation(connection: Connection, ended: EvaluatedResult, now: float, **of: Any) -> int:
    """A row for *ended*; *of* are the columns that say what was evaluated and by which rules. Returns its id."""
    result, device = ended.result, ended.device
    ok = result.outcome is Outcome.OK
    speedup = dict(result.speedup) if ok else {}
    statement = insert(EVALUATION).values(
        **of,
        device_id=device_id(connection, device),
        device_key=device.key,
        target=device.gpu,
        outcome=str(result.outcome),
        stage=str(result.stage),
        message=result.message,
        trials_passed=result.trials_passed,
        trials_of=result.trials_of,
        max_error=result.max_error,
        basis=str(result.basis),
        time_ms=result.time_ms if ok else None,
        eager_ms=result.baselines.get("eager"),
        compile_ms=result.baselines.get("compile"),
        speedup_eager=speedup.get("eager"),
        speedup_compile=speedup.get("compile"),
        provenance=result.provenance,
        wall_s=result.wall_s,
        time_stats=dict(result.time_stats) if ok and result.time_stats is not None else None,
        baselines=dict(result.baselines),
        speedup=speedup,
        advice=list(result.advice),
        detail=dict(result.detail),
        created_at=now,
    )
    return int(connection.execute(statement.returning(EVALUATION.c.id)).scalar_one())


def known_evaluation(connection: Connection, search: int, program: str) -> EvaluationView | None:
    """The newest deterministic evaluation of *program* under *search*'s problem, size, device, precision, tolerance
    and protocol, with its basis and, where it passed, a time. Only reads. Raises NotFound for an unknown search."""
    wanted = connection.execute(
        select(SEARCH, DEVICE.c.basis.label("device_basis"))
        .join(DEVICE, DEVICE.c.id == SEARCH.c.device_id)
        .where(SEARCH.c.id == search)
    ).first()
    if wanted is None:
        raise missing(connection, search)
    same = and_(
        EVALUATION.c.program == program,
        EVALUATION.c.problem_digest == wanted.problem_digest,
        EVALUATION.c.size_key == wanted.size_key,
        EVALUATION.c.device_key == wanted.device_key,
        EVALUATION.c.target == wanted.target,
        EVALUATION.c.precision == wanted.precision,
        EVALUATION.c.tolerance.is_not_distinct_from(wanted.tolerance),
        EVALUATION.c.protocol == wanted.protocol,
        EVALUATION.c.basis == wanted.device_basis,
        EVALUATION.c.outcome.in_([str(outcome) for outcome in DETERMINISTIC]),
        or_(EVALUATION.c.outcome != str(Outcome.OK), EVALUATION.c.time_ms.is_not(None)),
    )
    found = connection.execute(select(EVALUATION.c.id).where(same).order_by(EVALUATION.c.id.desc()).limit(1)).scalar()
    return None if found is None else evaluation(connection, found)
