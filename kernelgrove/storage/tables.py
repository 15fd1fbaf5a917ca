"""The ten tables. Domain types live in ``model`` and ``ports``; this module only says how they lie in the file.

Table models of SQLModel do not validate, and an Enum column would store the member's *name*: so enumerations are
``str`` with a CHECK, and ``store`` maps rows to frozen types. Times are seconds since the epoch, UTC; durations and
kernel times carry their unit in the name; a missing figure is NULL.

Addresses are stable names in a tree, the same whatever the order in which independent jobs finished::

    node            "r"                       the root
                    PARENT "." J "-" K        idea K (from 0) of the J-th (from 0) ideate job planned under PARENT
    implementation  NODE "/" V                variant V of the node's idea
                    FAILED "r" N              the N-th (from 0) repair planned of the implementation FAILED

    r.0-2.1-0/0r1   second repair of variant 0 of the first idea of the second ideate job under ``r.0-2``

J and N are counted when a job is recorded (``job.ordinal``), before any of them runs.

Schema changes need a new migration; a test compares this module with what the migrations build.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict
from sqlalchemy import CheckConstraint, Float, ForeignKey, Index, Integer, MetaData, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from ..model import (
    Basis,
    CompletionState,
    JobKind,
    JobState,
    NodeState,
    Outcome,
    SearchStatus,
    Stage,
    StoppedBy,
)
from .columns import CleanText, JsonText, Real

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_metadata = metadata


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """NULL passes, as SQL's CHECK has it; columns that must have a value are NOT NULL."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _only(name: str, *columns: str, where: str) -> Index:
    """An index over some rows."""
    return Index(name, *columns, sqlite_where=text(where))


#: Columns of a completion that are summed up.
COSTS = "model cost_usd tokens input_tokens output_tokens reserve_usd reserve_tokens".split()

#: Columns of an evaluation that a snapshot shows, less the message.
LIGHT = "outcome stage basis time_ms time_low_ms time_high_ms timing baselines speedup".split()


def _text(**options: Any) -> Any:
    return Field(sa_type=CleanText, **options)


def _json(**options: Any) -> Any:
    return Field(sa_type=JsonText, **options)


def _ref(target: str, *, nullable: bool = False, **options: Any) -> Any:
    key = ForeignKey(target, **options)
    if nullable:
        return Field(default=None, sa_type=Integer, sa_column_args=[key], nullable=True)
    return Field(sa_type=Integer, sa_column_args=[key], nullable=False)


def _figure() -> Any:
    return Field(default=None, sa_type=Real)


class Table(SQLModel):
    metadata = _metadata
    # Rows are not validated, so nobody needs what pydantic would build for it.
    model_config = ConfigDict(defer_build=True)  # type: ignore[assignment]


class Problem(Table, table=True):
    """A problem file as it was loaded. The digest is that of ``source``."""

    __tablename__ = "problem"
    __table_args__ = (Index("ix_problem_digest", "digest"),)
    id: int | None = Field(default=None, primary_key=True)
    digest: str = _text()
    name: str = _text()
    source: str = _text()
    path: str | None = _text(default=None)
    sizes: dict[str, Any] = _json()
    precision: str | None = _text(default=None)
    mode: str = _text()


class Device(Table, table=True):
    """A device with its software: the same GPU under another torch is another row, under the same ``key``."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("name", "gpu", "key", "basis", "software"), _one_of("basis", Basis))
    id: int | None = Field(default=None, primary_key=True)
    name: str = _text()
    gpu: str = _text()
    key: str = _text()
    basis: str = _text()
    software: dict[str, Any] = _json()


class Search(Table, table=True):
    """A SearchSpec and how the search stands. ``target`` and ``device_key`` repeat its device's."""

    __tablename__ = "search"
    __table_args__ = (_one_of("status", SearchStatus), _one_of("stopped_by", StoppedBy), Index(None, "name"))
    id: int | None = Field(default=None, primary_key=True)
    name: str | None = _text(default=None)
    problem_id: int = _ref("problem.id")
    problem_digest: str = _text()
    device_id: int = _ref("device.id")
    device_key: str = _text()
    target: str = _text()
    size_key: str = _text()
    instance: dict[str, Any] = _json()
    strategy: str = _text()
    strategy_options: dict[str, Any] = _json()
    models: list[str] = _json()
    seed: int
    precision: str = _text()
    tolerance: float | None = _figure()
    protocol: int
    options: dict[str, Any] = _json()
    status: str = _text()
    stopped_by: str | None = _text(default=None)
    note: str = _text(default="")
    created_at: float = Field(sa_type=Float)
    elapsed_s: float = Field(default=0.0, sa_type=Float)


class Node(Table, table=True):
    __tablename__ = "node"
    __table_args__ = (
        UniqueConstraint("search_id", "address"),
        _one_of("state", NodeState),
        Index(None, "search_id"),
        Index(None, "parent_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    search_id: int = _ref("search.id")
    parent_id: int | None = _ref("node.id", nullable=True)
    base_id: int | None = _ref("implementation.id", nullable=True, use_alter=True)
    address: str = _text()
    round: int
    idea: str = _text()
    rationale: str = _text(default="")
    category: str = _text()
    state: str = _text(default="open")
    pruned_because: str | None = _text(default=None)
    rating: float | None = _figure()
    model: str = _text(default="")
    job_id: int | None = _ref("job.id", nullable=True, use_alter=True)
    created_at: float = Field(sa_type=Float)


class Program(Table, table=True):
    """Source text, once. ``hash`` is that of the normalised text; ``code`` is the text first seen."""

    __tablename__ = "program"
    __table_args__ = (UniqueConstraint("hash"),)
    id: int | None = Field(default=None, primary_key=True)
    hash: str = _text()
    code: str = _text()
    created_at: float = Field(sa_type=Float)


class Implementation(Table, table=True):
    """``evaluation_id`` is the evaluation that speaks for the program in the search (``model.speaking``): one that a
    job of the search made, or that of an earlier search which was reused; replays never change it. ``outcome``,
    ``basis`` and ``time_ms`` repeat it, for the index of the best."""

    __tablename__ = "implementation"
    __table_args__ = (
        UniqueConstraint("search_id", "address"),
        _one_of("outcome", Outcome),
        _one_of("basis", Basis),
        Index(None, "search_id"),
        Index(None, "search_id", "program"),
        Index(None, "program"),
        Index(None, "node_id"),
        Index(None, "evaluation_id"),
        _only("ix_implementation_repair_of", "repair_of", where="repair_of IS NOT NULL"),
        _only("ix_implementation_best", "search_id", "outcome", "basis", "time_ms", where="duplicate_of IS NULL"),
    )
    id: int | None = Field(default=None, primary_key=True)
    search_id: int = _ref("search.id")
    node_id: int = _ref("node.id")
    address: str = _text()
    repair_of: int | None = _ref("implementation.id", nullable=True)
    duplicate_of: int | None = _ref("implementation.id", nullable=True)
    program: str = Field(sa_type=CleanText, sa_column_args=[ForeignKey("program.hash")])
    evaluation_id: int | None = _ref("evaluation.id", nullable=True, use_alter=True)
    outcome: str | None = _text(default=None)
    basis: str | None = _text(default=None)
    time_ms: float | None = _figure()
    model: str = _text(default="")
    note: str = _text(default="")
    job_id: int | None = _ref("job.id", nullable=True, use_alter=True)
    created_at: float = Field(sa_type=Float)


class Evaluation(Table, table=True):
    """One measurement. Never changed, never deleted: triggers refuse. Found again by the columns of
    ``ix_evaluation_known``, which is no unique key, since a replay measures the same program again; and so may its own
    search, which says in ``remeasures`` which evaluation was its first of the program."""

    __tablename__ = "evaluation"
    __table_args__ = (
        _one_of("outcome", Outcome),
        _one_of("stage", Stage),
        _one_of("basis", Basis),
        CheckConstraint("time_ms IS NULL OR outcome = 'ok'", name="time"),
        _one_of("timing", ("screened", "sealed")),
        Index(
            "ix_evaluation_known",
            *("program", "problem_digest", "size_key", "device_key", "target", "precision", "tolerance", "protocol"),
        ),
        # All that a snapshot needs of an evaluation: the rows, with their JSON, fill a page each.
        Index("ix_evaluation_light", "search_id", *LIGHT),
        _only("ix_evaluation_message", "search_id", where="message <> ''"),
        _only("ix_evaluation_remeasured", "search_id", "remeasures", where="remeasures IS NOT NULL"),
    )
    id: int | None = Field(default=None, primary_key=True)
    search_id: int | None = _ref("search.id", nullable=True)
    implementation_id: int | None = _ref("implementation.id", nullable=True)
    job_id: int | None = _ref("job.id", nullable=True, use_alter=True)
    remeasures: int | None = _ref("evaluation.id", nullable=True)
    program: str = Field(sa_type=CleanText, sa_column_args=[ForeignKey("program.hash")])
    problem_digest: str = _text()
    size_key: str = _text()
    device_id: int = _ref("device.id")
    device_key: str = _text()
    target: str = _text()
    precision: str = _text()
    tolerance: float | None = _figure()
    protocol: int
    outcome: str = _text()
    stage: str = _text()
    message: str = _text(default="")
    trials_passed: int = 0
    trials_of: int = 0
    max_error: float | None = _figure()
    basis: str = _text()
    time_ms: float | None = _figure()
    time_low_ms: float | None = _figure()
    time_high_ms: float | None = _figure()
    timing: str | None = _text(default=None)
    eager_ms: float | None = _figure()
    compile_ms: float | None = _figure()
    speedup_eager: float | None = _figure()
    speedup_compile: float | None = _figure()
    provenance: str | None = _text(default=None)
    wall_s: float = Field(default=0.0, sa_type=Float)
    time_stats: dict[str, Any] | None = _json(default=None, nullable=True)
    baselines: dict[str, Any] = _json()
    speedup: dict[str, Any] = _json()
    advice: list[str] = _json()
    detail: dict[str, Any] = _json()
    created_at: float = Field(sa_type=Float)


class Job(Table, table=True):
    """``attempt`` counts from 1; (id, owner, attempt) is the fence of a lease."""

    __tablename__ = "job"
    __table_args__ = (
        _one_of("kind", JobKind),
        _one_of("state", JobState),
        CheckConstraint("state <> 'leased' OR (owner IS NOT NULL AND lease_until IS NOT NULL)", name="lease"),
        Index(None, "state", "kind", "search_id"),
        Index(None, "search_id", "kind", "node_id"),
        Index(None, "implementation_id", "kind"),
    )
    id: int | None = Field(default=None, primary_key=True)
    search_id: int = _ref("search.id")
    step: int | None = None
    kind: str = _text()
    key: str = _text()
    ordinal: int = 0
    payload: dict[str, Any] = _json()
    node_id: int | None = _ref("node.id", nullable=True)
    implementation_id: int | None = _ref("implementation.id", nullable=True)
    state: str = _text(default="queued")
    attempt: int = 1
    max_attempts: int = 3
    owner: str | None = _text(default=None)
    lease_until: float | None = Field(default=None, sa_type=Float)
    reason: str | None = _text(default=None)
    model: str = _text(default="")
    note: str = _text(default="")
    created_at: float = Field(sa_type=Float)
    started_at: float | None = Field(default=None, sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)


class Completion(Table, table=True):
    """The ledger: one row a try of a proposer call. Settled rows never change (triggers refuse).

    ``cost_usd`` and ``tokens`` are what is charged: the reservation for ``unknown``, NULL cost where no price is
    known. ``proposal`` is the parsed answer, from which a search can be replayed.
    """

    __tablename__ = "completion"
    __table_args__ = (
        _one_of("kind", JobKind),
        _one_of("state", CompletionState),
        # Sums over the ledger are taken at every step; its rows hold whole prompts.
        Index("ix_completion_cost", "search_id", "state", *COSTS),
        Index(None, "problem_digest", "key"),
        Index(None, "job_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    search_id: int = _ref("search.id")
    job_id: int = _ref("job.id")
    owner: str = _text()
    attempt: int
    kind: str = _text()
    key: str = _text()
    problem_digest: str = _text()
    model: str = _text()
    state: str = _text(default="planned")
    reserve_usd: float = Field(default=0.0, sa_type=Float)
    reserve_tokens: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens: int | None = None
    cost_usd: float | None = _figure()
    request: str | None = _text(default=None)
    response: str | None = _text(default=None)
    proposal: dict[str, Any] | None = _json(default=None, nullable=True)
    error: str | None = _text(default=None)
    created_at: float = Field(sa_type=Float)
    sent_at: float | None = Field(default=None, sa_type=Float)
    settled_at: float | None = Field(default=None, sa_type=Float)


class Decision(Table, table=True):
    __tablename__ = "decision"
    __table_args__ = (UniqueConstraint("search_id", "step"),)
    id: int | None = Field(default=None, primary_key=True)
    search_id: int = _ref("search.id")
    step: int
    actions: list[Any] = _json()
    note: str = _text(default="")
    created_at: float = Field(sa_type=Float)


#: Columns of ``implementation`` that repeat its evaluation's, and are left out of exports.
REPEATED = ("outcome", "basis", "time_ms")

#: The Core tables, for statements.
PROBLEM = metadata.tables["problem"]
DEVICE = metadata.tables["device"]
SEARCH = metadata.tables["search"]
NODE = metadata.tables["node"]
PROGRAM = metadata.tables["program"]
IMPLEMENTATION = metadata.tables["implementation"]
EVALUATION = metadata.tables["evaluation"]
JOB = metadata.tables["job"]
COMPLETION = metadata.tables["completion"]
DECISION = metadata.tables["decision"]
