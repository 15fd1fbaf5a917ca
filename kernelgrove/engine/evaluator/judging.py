"""One candidate from its text to its verdict: parse, load, first call, correctness, figure. Runs in the judge."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from kernelgrove.errors import EvaluatorError
from kernelgrove.model import EvaluationRequest, EvaluationResult, Outcome, Provenance, Stage
from kernelgrove.problems.parsing import parse

from . import sandbox
from .checking.judged_reference import JudgedReference
from .lint import lint
from .sittings.laps import Laps
from .sittings.sitting import EXPELLED, Again, Bench, Expelled, Figures, Rejected, Restless, Sitting, Wrong
from .wire.driver import CudaError
from .wire.protocol import ProtocolBreak, clean
from .workers.handle import WorkerDied, WorkerFailed, WorkerTimeout

#: A file that is longer is refused: parsing it would keep the judge busy for seconds.
_MOST_BYTES = 1 << 18
#: Parsing keeps the interpreter to itself. What takes longer than an instant waits while a candidate is timed: it would
#: hold up the judge's clock.
_SHORT_BYTES = 1 << 14
#: All answers of a candidate together may take so many times what one may.
_STAGES = 4
_BELIEVED = {"compile_error", "runtime_error", "out_of_memory"}  # failures that a worker may report of itself


def judge(bench: Bench, reference: Callable[[], JudgedReference], request: EvaluationRequest) -> EvaluationResult:
    """Judge one candidate. A candidate's failure is a result; EvaluatorError and ProblemError are raised.

    Where the judge itself runs out of memory, or another process or candidate got in the way or may have, the candidate
    is judged once more.
    """
    found = None
    with contextlib.suppress(Again, CudaError, torch.OutOfMemoryError):
        found = _judge(bench, reference, request)
    if found is None:  # the error is gone, and with it what every frame below had in hand
        reference().forget()
        bench.recover()
    elif "restless" not in found.detail and EXPELLED not in found.message:
        return found
    try:
        return _judge(bench, reference, request)
    except (Again, CudaError, torch.OutOfMemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError) and reference().known:
            message = f"it leaves the judge no memory: {str(error).splitlines()[0]}"
            return EvaluationResult(
                Outcome.OUT_OF_MEMORY, Stage.CHECK, clean(message), basis=bench.basis, detail={"seconds": {}}
            )
        raise EvaluatorError(f"the candidate could not be judged: {error}", "Is another process on the GPU?") from error


def _judge(bench: Bench, reference: Callable[[], JudgedReference], request: EvaluationRequest) -> EvaluationResult:
    started = time.perf_counter()
    laps = Laps()
    detail: dict[str, Any] = {"seconds": laps.seconds}
    tally = Tally()

    def result(outcome: Outcome, stage: Stage, message: str, **more: Any) -> EvaluationResult:
        return EvaluationResult(
            outcome=outcome,
            stage=stage,
            message=message,
            trials_passed=tally.passed,
            trials_of=request.trials,
            basis=bench.basis,
            wall_s=round(time.perf_counter() - started, 3),
            detail=detail,
            advice=tuple(advice),
            **{"max_error": tally.worst, **more},
        )

    advice: list[str] = []
    short = len(request.code) <= _SHORT_BYTES
    with laps.lap("waiting"), contextlib.nullcontext() if short else bench.turns.shared(), laps.lap("parsing"):
        if problem := _syntax(request.code):
            return result(Outcome.COMPILE_ERROR, Stage.PARSE, problem)
        advice += lint(request.code)
    judged = reference()
    if not judged.ready:
        with laps.lap("waiting"), bench.turns.shared(), laps.lap("references"):
            judged.case(0)
    if request.timing:
        bench.begin(judged, request)
    with laps.lap("compiling ahead"):
        prepared = bench.compile_ahead(request)
    if prepared is not None:
        detail["ahead"] = {"files": sum(path.is_file() for path in prepared.folder.rglob("*")), "note": prepared.note}
        if prepared.refused:
            sandbox.remove(prepared.folder)
            return result(Outcome.COMPILE_ERROR, Stage.COMPILE, prepared.note)
    budget_s = _STAGES * request.timeout_s
    with Sitting(bench, judged, request.code, request.timeout_s, prepared, budget_s) as sitting:
        try:
            # Loading is the host's work but for an instant, and takes longer than a check: it waits for nobody's turn.
            with laps.lap("loading"):
                sitting.load(judged.case(0), request.precision, laps)
            with laps.lap("waiting"), bench.turns.shared(), laps.lap("checking"):
                _check(sitting, request, tally, detail, laps)
                if weaknesses := judged.weaknesses(request.tolerance):
                    detail["degenerate"] = weaknesses
            if request.require == Provenance.CUSTOM and sitting.provenance != Provenance.CUSTOM:
                raise Rejected(_not_custom(sitting))
            figures = Figures(None, {})
            if request.timing:
                sitting.stage, sitting.doing = Stage.TIME, "timing"
                figures = bench.figures(sitting, request, laps, lambda: advice.extend(_advise(sitting, request, laps)))
            else:
                with laps.lap("waiting"), bench.turns.shared():
                    advice += _advise(sitting, request, laps)
        except WorkerFailed as failed:
            outcome = Outcome(failed.outcome) if failed.outcome in _BELIEVED else Outcome.RUNTIME_ERROR
            stage = Stage(failed.stage) if failed.stage in set(Stage) else sitting.stage
            return result(outcome, stage, sitting.on + failed.message)
        except WorkerTimeout as late:
            return result(Outcome.TIMEOUT, sitting.stage, f"{sitting.on}{sitting.doing} gave {late} and was killed")
        except WorkerDied as died:
            outcome = Outcome.OUT_OF_MEMORY if "memory" in str(died) else Outcome.WORKER_DIED
            words = f"{sitting.on}the worker's process ended during {sitting.doing}: {died}"
            return result(outcome, sitting.stage, words)
        except Expelled as expelled:
            return result(Outcome.WORKER_DIED, sitting.stage, str(expelled))
        except ProtocolBreak as broken:
            return result(Outcome.REJECTED, sitting.stage, f"the candidate broke the evaluator's protocol: {broken}")
        except Rejected as rejected:
            if isinstance(rejected, Restless):
                detail["restless"] = True
            return result(Outcome.REJECTED, sitting.stage, sitting.on + str(rejected))
        except Wrong as wrong:
            message = sitting.on + wrong.verdict.message
            return result(Outcome.WRONG_RESULT, Stage.CHECK, message, max_error=wrong.verdict.error)
    detail.update(figures.detail)
    speedup = {
        name: (baseline / figures.time_ms if baseline is not None and figures.time_ms else None)
        for name, baseline in figures.baselines.items()
    }
    return result(
        Outcome.OK,
        Stage.TIME if request.timing else Stage.CHECK,
        figures.note,
        time_ms=figures.time_ms,
        time_stats=figures.stats,
        time_interval=figures.interval,
        timing=figures.timing,
        baselines=figures.baselines,
        speedup=speedup if figures.time_ms is not None else {},
        provenance=sitting.provenance,
    )


@dataclass
class Tally:
    """How far a candidate came: trials passed, and the largest error of any."""

    passed: int = 0
    worst: float | None = None

    def add(self, error: float | None) -> None:
        self.worst = self.worst if error is None else max(self.worst or 0.0, error)


def _check(sitting: Sitting, request: EvaluationRequest, tally: Tally, detail: dict[str, Any], laps: Laps) -> None:
    """All trials, then input variants. The last of several trials is on weights drawn again (cached or baked-in ones
    show) and on inputs drawn for this evaluation alone: what one candidate learned is of no use to the next."""
    judged = sitting.reference
    assert sitting.worker is not None
    detail["sandbox"] = sitting.worker.layers
    for trial in range(request.trials):
        if trial > 0 and trial == request.trials - 1 and judged.weights(0).state:
            sitting.reload(2 if sitting.by_name else 1)
        last = trial == request.trials - 1
        with laps.lap("references"):
            case = judged.fresh_case(sitting.draw) if last else sitting.current(trial)
        with laps.lap("first call" if trial == 0 else "calls"):
            sitting.call(case, first=trial == 0, observe=trial == min(1, request.trials - 1))
        earlier = sitting.drawn
        tally.add(sitting.verdict(case, request.tolerance))
        sitting.hold_against(earlier)
        del earlier
        tally.passed += 1
        if not last:
            del case  # of a large problem there is no room for two
    detail["stateful"] = judged.stateful  # found out now: timing needs it, and has no time for it
    if judged.random:
        sitting.repeat(case, request.tolerance)
    notes = {expected.note for expected in judged.case(0).expected if expected.note}
    if notes:
        detail["notes"] = sorted(notes)
    tried = detail.setdefault("variants", [])
    for variant, case in judged.variants(sitting.draw):
        sitting.on = f"on {variant.name}: "
        sitting.call(case, first=False)
        tally.add(sitting.verdict(case, request.tolerance))
        tried.append(variant.name)
    sitting.on = ""
    sitting.drawn = []  # timing divides what memory is free


def _advise(sitting: Sitting, request: EvaluationRequest, laps: Laps) -> list[str]:
    """What a kernel that passed still gets wrong, on inputs that its problem does not draw."""
    found = []
    for variant, case in sitting.reference.variants(sitting.draw, advice=True):
        try:
            with laps.lap("advising"):
                sitting.call(case, first=False)
                sitting.verdict(case, request.tolerance)
        except Wrong as wrong:
            found.append(f"it would be wrong on {variant.name}: {wrong.verdict.message}")
        except (WorkerFailed, Rejected) as failed:
            found.append(f"it would fail on {variant.name}: {str(failed).splitlines()[0]}")
        except (WorkerTimeout, WorkerDied, ProtocolBreak) as ended:
            found.append(f"it would fail on {variant.name}: {ended}")
            break
    return found


def _not_custom(sitting: Sitting) -> str:
    ran = f" (ATen computed {', '.join(sitting.operators)})" if sitting.operators else ""
    return f"kernels of the candidate's own are demanded, and what ran is {sitting.provenance or 'unknown'}{ran}"


def _syntax(code: str) -> str:
    """Why the file does not parse, or nothing. What only the compiler finds, the worker's says when it loads the file:
    compiling takes fifteen times as long as parsing, and holds the judge's interpreter."""
    try:
        size = len(code.encode())
        if size > _MOST_BYTES:
            return f"the file has {size:,} bytes; at most {_MOST_BYTES:,} are read"
        parse(code)
    except SyntaxError as error:
        line = (error.text or "").strip()
        return clean(f"SyntaxError: {error.msg} (line {error.lineno}{f': {line}' if line else ''})")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return clean(f"the file does not parse: {type(error).__name__}: {error}")
    return ""
