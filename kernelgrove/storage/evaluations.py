"""Evaluations as rows: how one is added, and which is known already. Functions of a connection; adding needs a write
transaction.

An implementation repeats what came of its evaluation (outcome, basis, time), so that a search's best is found in an
index, whichever search judged the program first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Text, and_, bindparam, cast, or_, select, text

from ..model import DETERMINISTIC, Basis, EvaluationView, Outcome, Stage, speaking
from ..ports import EvaluatedResult
from .queries import must_exist
from .searches import device_id
from .statements import Statement, adding, one_of
from .tables import DEVICE, EVALUATION, SEARCH
from .views import evaluation


@dataclass(frozen=True)
class Known:
    """An evaluation, and what an implementation repeats of it."""

    id: int
    outcome: str
    basis: str
    time_ms: float | None


def verdict_columns(found: Known | None) -> dict[str, Any]:
    """The columns of an implementation that say how it was judged."""
    if found is None:
        return {"evaluation_id": None, "outcome": None, "basis": None, "time_ms": None}
    return {"evaluation_id": found.id, "outcome": found.outcome, "basis": found.basis, "time_ms": found.time_ms}


_JUDGED = [EVALUATION.c[name] for name in ("id", "outcome", "basis", "time_ms")]
VERDICT = Statement(select(*_JUDGED).where(EVALUATION.c.id == bindparam("evaluation")))

_FIRST = Statement(select(EVALUATION.c.remeasures).where(EVALUATION.c.id == bindparam("evaluation")))
_MEASURED = Statement(
    select(*_JUDGED, EVALUATION.c.timing)
    .where(
        or_(
            EVALUATION.c.id == bindparam("first"),
            and_(EVALUATION.c.search_id == bindparam("search"), EVALUATION.c.remeasures == bindparam("first")),
        )
    )
    .order_by(EVALUATION.c.id)
)


def first_of(connection: Connection, evaluation: int) -> int:
    """The first of the measurements of a program by one search that *evaluation* is one of."""
    first: int | None = _FIRST.value(connection, evaluation=evaluation)
    return evaluation if first is None else first


def speaks_for(connection: Connection, search: int, first: int) -> Known:
    """Which of the measurements of a program by *search*, the first of which is *first*, speaks for it."""
    rows = {row[0]: row for row in _MEASURED.rows(connection, search=search, first=first)}
    views = [
        EvaluationView(id_, Outcome(outcome), Stage.TIME, "", Basis(basis), time_ms, {}, {}, None, timing)
        for id_, outcome, basis, time_ms, timing in rows.values()
    ]
    return Known(*rows[speaking(views).id][:-1])


_REPEAT = Statement(
    text(
        "UPDATE implementation SET (outcome, basis, time_ms) ="
        " (SELECT e.outcome, e.basis, e.time_ms FROM evaluation e WHERE e.id = implementation.evaluation_id)"
        " WHERE id >= :first AND evaluation_id IS NOT NULL"
    )
)


def repeat_verdicts(connection: Connection, first: int) -> None:
    """Fill in what implementations from id *first* on repeat of their evaluations: rows that came from a file."""
    _REPEAT.change(connection, first=first)


_ADD_EVALUATION = adding(EVALUATION)


def insert_evaluation(
    connection: Connection, ended: EvaluatedResult, now: float, *, remeasures: int | None = None, **of: Any
) -> Known:
    """A row for *ended*; *of* are the columns that say what was evaluated and by which rules."""
    result, device = ended.result, ended.device
    ok = result.outcome is Outcome.OK
    speedup = dict(result.speedup) if ok else {}
    low, high = result.time_interval if ok and result.time_interval is not None else (None, None)
    time_ms = result.time_ms if ok else None
    id_ = _ADD_EVALUATION.value(
        connection,
        **of,
        remeasures=remeasures,
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
        time_ms=time_ms,
        time_low_ms=low,
        time_high_ms=high,
        timing=result.timing if ok else None,
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
    return Known(int(id_), str(result.outcome), str(result.basis), time_ms)


_SAME = "problem_digest size_key device_key target precision protocol".split()
_KNOWN = Statement(
    select(*_JUDGED)
    .select_from(SEARCH)
    .join(DEVICE, DEVICE.c.id == SEARCH.c.device_id)
    .join(
        EVALUATION,
        and_(
            EVALUATION.c.program == bindparam("program"),
            *(EVALUATION.c[name] == SEARCH.c[name] for name in _SAME),
            EVALUATION.c.tolerance.is_not_distinct_from(SEARCH.c.tolerance),
            EVALUATION.c.basis == DEVICE.c.basis,
        ),
    )
    .where(
        SEARCH.c.id == bindparam("search"),
        one_of(EVALUATION.c.outcome, sorted(str(outcome) for outcome in DETERMINISTIC)),
        or_(EVALUATION.c.outcome != str(Outcome.OK), EVALUATION.c.time_ms.is_not(None)),
        # What passed without the demand may not pass with it.
        or_(
            EVALUATION.c.outcome != str(Outcome.OK),
            EVALUATION.c.provenance == "custom",
            cast(SEARCH.c.options, Text).not_like('%"require": "custom"%'),
        ),
    )
    .order_by(EVALUATION.c.id.desc())
    .limit(1)
)


def known(connection: Connection, search: int, program: str) -> Known | None:
    """The newest deterministic evaluation of *program* under *search*'s problem, size, device, precision, tolerance
    and protocol, with its basis and, where it passed, a time. Only reads."""
    found = _KNOWN.first(connection, search=search, program=program)
    return None if found is None else Known(*found)


def known_evaluation(connection: Connection, search: int, program: str) -> EvaluationView | None:
    """See ``known``. Raises NotFound for an unknown search."""
    found = known(connection, search, program)
    if found is None:
        must_exist(connection, search)
        return None
    return evaluation(connection, found.id)
