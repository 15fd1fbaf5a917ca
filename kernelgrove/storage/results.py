"""What a finished job leaves behind: nodes, an implementation, an evaluation or ratings, in the transaction that ends
the job. Functions of a connection with a write transaction open, unless they say they only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, null, select, text, update

from ..errors import NotFound, StoreError
from ..model import JobKind, JobState, NodeState
from ..ports import CodeResult, EvaluatedResult, IdeasResult, Job, JobResult, PlannedJob, RatedResult
from .columns import CleanText
from .evaluations import VERDICT, Known, first_of, insert_evaluation, known, speaks_for, verdict_columns
from .jobs import HELD, LEASED, QUEUED, fence, queue
from .programs import program_hash
from .statements import Statement, adding, one_of
from .tables import IMPLEMENTATION, JOB, NODE, SEARCH

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


@dataclass(frozen=True)
class Ending:
    """The job that a result ends, as it was planned."""

    id: int
    search: int
    kind: str
    ordinal: int
    payload: Mapping[str, Any]
    node: int | None
    implementation: int | None


_END = Statement(
    update(JOB)
    .where(HELD)
    .values(
        state=str(JobState.DONE),
        lease_until=null(),
        finished_at=bindparam("now"),
        model=bindparam("answered_by", type_=JOB.c.model.type),
        note=bindparam("says", type_=JOB.c.note.type),
    )
    .returning(*(JOB.c[name] for name in "id search_id kind ordinal payload node_id implementation_id".split()))
)
_REFUSE = Statement(
    update(JOB)
    .where(JOB.c.id == bindparam("job"))
    .values(state=str(JobState.FAILED), reason=bindparam("why", type_=JOB.c.reason.type))
)
_RATE = Statement(
    update(NODE)
    .where(NODE.c.id == bindparam("node"), NODE.c.search_id == bindparam("search"))
    .values(rating=bindparam("rated", type_=NODE.c.rating.type))
)


def finish(connection: Connection, job: Job, prepared: Prepared, now: float) -> bool:
    """End *job* with its result. False, and nothing written, when its lease was lost. Raises StoreError when the
    result is not of the job's kind."""
    result = prepared.result
    if job.kind not in _ENDS[type(result)]:
        raise StoreError(f"A job of kind {job.kind} cannot end with {type(result).__name__}.")
    model = "" if isinstance(result, EvaluatedResult) else result.model
    note = result.note if isinstance(result, (IdeasResult, CodeResult)) else ""
    row = _END.first(connection, now=now, answered_by=model, says=note, **fence(job))
    if row is None:
        return False
    ending = Ending(*row)
    match result:
        case IdeasResult():
            _add_ideas(connection, ending, result, now)
        case CodeResult():
            assert prepared.program is not None
            _add_implementation(connection, ending, result, prepared.program, now)
        case EvaluatedResult():
            _add_evaluation(connection, ending, result, now)
        case RatedResult():
            for node, rating in result.ratings.items():
                _RATE.change(connection, node=node, search=ending.search, rated=rating)
    return True


# --------------------------------------------------------------------------------------------------- ideas

_PLACE = Statement(
    select(NODE.c.address, NODE.c.round).where(NODE.c.id == bindparam("node"), NODE.c.search_id == bindparam("search"))
)
_ADD_NODE = adding(NODE)


def _add_ideas(connection: Connection, job: Ending, result: IdeasResult, now: float) -> None:
    place = _PLACE.first(connection, node=job.node, search=job.search)
    assert place is not None
    address, round_ = place
    for index, idea in enumerate(result.ideas):
        _ADD_NODE.value(
            connection,
            search_id=job.search,
            parent_id=job.node,
            base_id=job.payload.get("base"),
            address=f"{address}.{job.ordinal}-{index}",
            round=job.payload.get("round", round_ + 1),
            idea=idea.text,
            rationale=idea.rationale,
            category=idea.category,
            state=str(NodeState.OPEN),
            pruned_because=None,
            rating=None,
            model=result.model,
            job_id=job.id,
            created_at=now,
        )


# ------------------------------------------------------------------------------------------ implementations

_ADD_PROGRAM = Statement(
    text(
        "INSERT INTO program (hash, code, created_at) VALUES (:hash, :code, :now) ON CONFLICT (hash) DO NOTHING"
    ).bindparams(bindparam("code", type_=CleanText()))
)
_TAKEN = Statement(
    select(IMPLEMENTATION.c.id).where(
        IMPLEMENTATION.c.search_id == bindparam("search"), IMPLEMENTATION.c.address == bindparam("address")
    )
)
_FIRST = Statement(
    select(IMPLEMENTATION.c.id, IMPLEMENTATION.c.evaluation_id)
    .where(IMPLEMENTATION.c.search_id == bindparam("search"), IMPLEMENTATION.c.program == bindparam("program"))
    .order_by(IMPLEMENTATION.c.id)
    .limit(1)
)
_ADD_IMPLEMENTATION = adding(IMPLEMENTATION)
_FAILED = Statement(
    select(IMPLEMENTATION.c.node_id, IMPLEMENTATION.c.address).where(
        IMPLEMENTATION.c.id == bindparam("failed"), IMPLEMENTATION.c.search_id == bindparam("search")
    )
)
_BEING_EVALUATED = Statement(
    select(JOB.c.id)
    .join(IMPLEMENTATION, IMPLEMENTATION.c.id == JOB.c.implementation_id)
    .where(
        JOB.c.kind == str(JobKind.EVALUATE),
        one_of(JOB.c.state, [QUEUED, LEASED]),
        IMPLEMENTATION.c.search_id == bindparam("search"),
        IMPLEMENTATION.c.program == bindparam("program"),
    )
    .limit(1)
)


def _add_implementation(connection: Connection, job: Ending, result: CodeResult, program: str, now: float) -> None:
    node, address = _implemented(connection, job)
    search = job.search
    if _TAKEN.first(connection, search=search, address=address):
        # Taking the result would break the tree: the job ends without it.
        _REFUSE.change(connection, job=job.id, why=f"{address} was implemented by another job already")
        return
    _ADD_PROGRAM.change(connection, hash=program, code=result.code, now=now)
    first = _FIRST.first(connection, search=search, program=program)
    judged: Known | None = None
    if first is None:
        judged = known(connection, search, program)
    elif first[1] is not None:
        judged = Known(*VERDICT.first(connection, evaluation=first[1]))  # type: ignore[misc]
    implementation = _ADD_IMPLEMENTATION.value(
        connection,
        search_id=search,
        node_id=node,
        address=address,
        repair_of=job.implementation if job.kind == JobKind.REPAIR else None,
        duplicate_of=None if first is None else first[0],
        program=program,
        model=result.model,
        note=result.note,
        job_id=job.id,
        created_at=now,
        **verdict_columns(judged),
    )
    waiting = first is not None and _BEING_EVALUATED.first(connection, search=search, program=program)
    if judged is None and not waiting:
        wanted = PlannedJob(
            kind=JobKind.EVALUATE,
            key=f"evaluate:{address}",
            payload={"program": program},
            node=node,
            implementation=implementation,
        )
        queue(connection, search, wanted, now)


def _implemented(connection: Connection, job: Ending) -> tuple[int, str]:
    """The node and the address of the implementation that *job* makes."""
    if job.kind == JobKind.REPAIR:
        failed = _FAILED.first(connection, failed=job.implementation, search=job.search)
        assert failed is not None
        return failed[0], f"{failed[1]}r{job.ordinal}"
    place = _PLACE.first(connection, node=job.node, search=job.search)
    assert place is not None and job.node is not None
    return job.node, f"{place[0]}/{job.payload.get('variant', 0)}"


# ---------------------------------------------------------------------------------------------- evaluations


_RULES = "problem_digest size_key precision tolerance protocol".split()
_WHAT = Statement(
    select(IMPLEMENTATION.c.program, IMPLEMENTATION.c.evaluation_id, *(SEARCH.c[name] for name in _RULES))
    .join(SEARCH, SEARCH.c.id == IMPLEMENTATION.c.search_id)
    .where(IMPLEMENTATION.c.id == bindparam("implementation"), IMPLEMENTATION.c.search_id == bindparam("search"))
)
_JUDGE = Statement(
    update(IMPLEMENTATION)
    .where(
        IMPLEMENTATION.c.search_id == bindparam("search"),
        IMPLEMENTATION.c.program == bindparam("judged"),
    )
    .values(
        {
            name: bindparam(f"new_{name}", type_=IMPLEMENTATION.c[name].type)
            for name in ("evaluation_id", "outcome", "basis", "time_ms")
        }
    )
)


def _add_evaluation(connection: Connection, job: Ending, ended: EvaluatedResult, now: float) -> None:
    """The evaluation; and which one speaks from now on for each implementation of the program in this search."""
    found = _WHAT.first(connection, implementation=job.implementation, search=job.search)
    if found is None:
        raise NotFound(f"Job t{job.id} evaluates no implementation of its search.")
    program, before, *rules = found
    first = None if before is None else first_of(connection, before)
    made = insert_evaluation(
        connection,
        ended,
        now,
        search_id=job.search,
        implementation_id=job.implementation,
        job_id=job.id,
        remeasures=first,
        program=program,
        **dict(zip(_RULES, rules, strict=True)),
    )
    speaks = made if first is None else speaks_for(connection, job.search, first)
    changed = {f"new_{name}": value for name, value in verdict_columns(speaks).items()}
    _JUDGE.change(connection, search=job.search, judged=program, **changed)
