"""One candidate from its text to its verdict: parse, load, first call, correctness, figure. Runs in the judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from kernelgrove.model import Basis, EvaluationRequest, EvaluationResult, Outcome, Stage

from .arena import Arena, Slot, Spec, lay_out
from .correctness import Verdict, compare, describe_mismatch
from .locks import Turns
from .protocol import ProtocolBreak, Reply
from .references import Case, JudgedReference, Weights, identical
from .workers import Worker, WorkerDied, WorkerFailed, WorkerTimeout

_BELIEVED = {"compile_error", "runtime_error", "out_of_memory"}  # failures that a worker may report of itself


class Rejected(Exception):
    """The candidate broke a rule."""


@dataclass(frozen=True)
class Figures:
    """What a bench found about speed. Without ``time_ms``, ``note`` says why there is none."""

    time_ms: float | None
    baselines: dict[str, float | None]
    stats: dict[str, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""


class Bench(Protocol):
    """What differs between a GPU and the CPU: memory, workers, and how a time is found."""

    device: str
    basis: Basis
    turns: Turns

    def fork(self, precision: str) -> Worker: ...

    def arena(self, size: int) -> Arena: ...

    def figures(self, sitting: Sitting, request: EvaluationRequest) -> Figures: ...


class Sitting:
    """One worker with its arena and the reference it is held against."""

    def __init__(self, bench: Bench, reference: JudgedReference, code: str, timeout_s: float) -> None:
        self.bench = bench
        self.reference = reference
        self.code = code
        self.timeout_s = timeout_s
        self.worker: Worker | None = None
        self.arena: Arena | None = None
        self.doing = "starting"
        self.stage = Stage.LOAD
        self.provenance: str | None = None
        self.draw = 0  # of the weights that ModelNew was last constructed with

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.worker is not None:
            self.worker.close()
        if self.arena is not None:
            self.arena.close()

    def load(self, case: Case, precision: str) -> None:
        """Start a worker, give it the code and construct ModelNew under the case's weights."""
        self.stage, self.doing = Stage.LOAD, "loading the file and constructing ModelNew"
        self.worker = self.bench.fork(precision)
        self.arena = self.bench.arena(self._size(case))
        self._construct(case.weights)

    def reload(self, case: Case) -> None:
        """Construct ModelNew again under other weights."""
        self.stage, self.doing = Stage.LOAD, "constructing ModelNew again with other weights"
        self._construct(case.weights)

    def _construct(self, weights: Weights) -> None:
        assert self.worker is not None and self.arena is not None
        slots, free = lay_out([Spec.of(value) for _, value in weights.state])
        init_slots, _ = lay_out([Spec.of(tensor) for tensor in self.reference.init_tensors], free)
        for slot, (_, value) in zip(slots, weights.state, strict=True):
            self.arena.view(slot).copy_(value)
        for slot, tensor in zip(init_slots, self.reference.init_tensors, strict=True):
            self.arena.view(slot).copy_(tensor)
        self._synchronise()
        fields = {
            "weights": [[name, slot.to_json()] for slot, (name, _) in zip(slots, weights.state, strict=True)],
            "init": [slot.to_json() for slot in init_slots],
            "seed": weights.seed,
            "mode": self.reference.instance.mode,
            "arena_bytes": self.arena.size,
        }
        blobs: list[bytes | int] = [self.code.encode(), self.reference.init_packed, self.arena.fd]
        self.worker.ask("load", Reply.LOADED, self.timeout_s, fields, blobs)

    def current(self, number: int) -> Case:
        """Case *number* under the weights that the worker has now."""
        return self.reference.case(number, self.draw)

    def call(self, case: Case, first: bool, observe: bool = False) -> None:
        """One forward on *case*; raises unless the outputs are there. ``verdict`` then compares them.

        *observe* tells what it launched. Not in a first call: ``torch.compile`` compiles nothing that is observed.
        """
        self.stage, self.doing = Stage.RUN, "the first call of forward" if first else "forward"
        assert self.worker is not None
        inputs, outputs = self.place(case)
        fields = {
            "seed": case.forward_seed,
            "inputs": _json(inputs),
            "outputs": self.wanted(case, outputs),
            "observe": observe,
        }
        reply = self.worker.ask("call", Reply.CALLED, self.timeout_s, fields, [case.packed])
        if reply.get("provenance") in ("custom", "mixed", "library"):
            self.provenance = reply["provenance"]
        self.stage = Stage.CHECK
        self.delivered(reply, case)
        unwritten = reply.get("unwritten")
        if isinstance(unwritten, list) and unwritten:
            path = case.expected[min(int(unwritten[0]), len(case.expected) - 1)].path
            raise Rejected(
                f"output{path} was written by no Triton kernel and no ATen operator: NumPy or Python code is no kernel"
            )

    def place(self, case: Case) -> tuple[list[Slot], list[Slot | None]]:
        """Put the case's inputs into the arena and poison the output slots; returns both."""
        assert self.arena is not None
        start = self._weight_bytes(case)
        inputs, free = lay_out([Spec.of(master) for master in case.masters], start)
        outputs: list[Slot | None] = []
        for expected in case.expected:
            if expected.spec is None:
                outputs.append(None)
                continue
            (slot,), free = lay_out([expected.spec], free)
            outputs.append(slot)
        for slot, master in zip(inputs, case.masters, strict=True):
            self.arena.view(slot).copy_(master)
        for poisoned in outputs:
            if poisoned is not None:
                view = self.arena.view(poisoned)
                view.fill_(
                    float("nan")
                    if view.dtype.is_floating_point or view.dtype.is_complex
                    else _POISON.get(view.dtype, 1)
                )
        self._synchronise()
        return inputs, outputs

    def wanted(self, case: Case, outputs: list[Slot | None]) -> list[Any]:
        """The outputs' paths and slots as a worker is told of them."""
        pairs = zip(case.expected, outputs, strict=True)
        return [[expected.path, slot.to_json() if slot is not None else None] for expected, slot in pairs]

    def delivered(self, reply: dict[str, Any], case: Case) -> None:
        """Raise Wrong unless the worker says that it copied outputs of the right form."""
        if reply.get("copied") is not True:
            leaves, count = reply.get("leaves"), reply.get("count")
            if not isinstance(leaves, list) or not isinstance(count, int):
                raise ProtocolBreak("the worker does not say what forward returned")
            raise Wrong(Verdict(None, describe_mismatch(_leaves(leaves), count, case.expected)))

    def verdict(self, case: Case, allclose: float | None) -> float | None:
        """The largest error over all outputs of the last call. Raises Rejected or Wrong."""
        assert self.arena is not None
        self.stage, self.doing = Stage.CHECK, "checking"
        inputs, outputs = self._slots(case)
        for number, (slot, master) in enumerate(zip(inputs, case.masters, strict=True)):
            view = self.arena.view(slot)
            if number not in case.mutable and not identical(view, master):
                raise Rejected(f"forward changed input {number}, which the reference leaves alone; work on a copy")
        worst: float | None = None
        for expected, output in zip(case.expected, outputs, strict=True):
            if output is None:
                continue
            found = compare(self.arena.view(output).clone(), expected, allclose)
            if found.message:
                raise Wrong(found)
            if found.error is not None:
                worst = max(worst or 0.0, found.error)
        return worst

    def _slots(self, case: Case) -> tuple[list[Slot], list[Slot | None]]:
        inputs, free = lay_out([Spec.of(master) for master in case.masters], self._weight_bytes(case))
        outputs: list[Slot | None] = []
        for expected in case.expected:
            if expected.spec is None:
                outputs.append(None)
            else:
                (slot,), free = lay_out([expected.spec], free)
                outputs.append(slot)
        return inputs, outputs

    def _weight_bytes(self, case: Case) -> int:
        specs = [Spec.of(value) for _, value in case.weights.state]
        specs += [Spec.of(tensor) for tensor in self.reference.init_tensors]
        return lay_out(specs)[1]

    def _size(self, case: Case) -> int:
        specs = [Spec.of(master) for master in case.masters]
        specs += [expected.spec for expected in case.expected if expected.spec is not None]
        # Other seeds may draw other shapes; those that do not fit are refused with a clear message by the view.
        return lay_out(specs, self._weight_bytes(case))[1] + 512

    def _synchronise(self) -> None:
        if self.bench.device.startswith("cuda"):
            torch.cuda.synchronize()


class Wrong(Exception):
    """An output is not what it should be."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


def judge(bench: Bench, reference: Callable[[], JudgedReference], request: EvaluationRequest) -> EvaluationResult:
    """Judge one candidate. A candidate's failure is a result; EvaluatorError and ProblemError are raised."""
    started = time.perf_counter()
    passed, worst = 0, None
    detail: dict[str, Any] = {}

    def result(outcome: Outcome, stage: Stage, message: str, **more: Any) -> EvaluationResult:
        return EvaluationResult(
            outcome=outcome,
            stage=stage,
            message=message,
            trials_passed=passed,
            trials_of=request.trials,
            basis=bench.basis,
            wall_s=round(time.perf_counter() - started, 3),
            detail=detail,
            **{"max_error": worst, **more},
        )

    if problem := _syntax(request.code):
        return result(Outcome.COMPILE_ERROR, Stage.PARSE, problem)
    judged = reference()
    with Sitting(bench, judged, request.code, request.timeout_s) as sitting:
        try:
            with bench.turns.shared():
                sitting.load(judged.case(0), request.precision)
                assert sitting.worker is not None
                detail["sandbox"] = sitting.worker.layers
                for trial in range(request.trials):
                    # The last of several trials runs on weights drawn again: cached or baked-in ones show.
                    redraw = trial > 0 and trial == request.trials - 1 and bool(judged.weights(0).state)
                    case = judged.case(trial, int(redraw))
                    if redraw:
                        sitting.draw = 1
                        sitting.reload(case)
                    sitting.call(case, first=trial == 0, observe=trial == min(1, request.trials - 1))
                    error = sitting.verdict(case, request.tolerance)
                    worst = max(worst or 0.0, error) if error is not None else worst
                    passed += 1
            notes = {expected.note for expected in judged.case(0).expected if expected.note}
            if notes:
                detail["notes"] = sorted(notes)
            if not request.timing:
                return result(Outcome.OK, Stage.CHECK, "", provenance=sitting.provenance)
            sitting.stage, sitting.doing = Stage.TIME, "timing"
            figures = bench.figures(sitting, request)
        except WorkerFailed as failed:
            outcome = Outcome(failed.outcome) if failed.outcome in _BELIEVED else Outcome.RUNTIME_ERROR
            stage = Stage(failed.stage) if failed.stage in set(Stage) else sitting.stage
            return result(outcome, stage, failed.message)
        except WorkerTimeout as late:
            return result(Outcome.TIMEOUT, sitting.stage, f"{sitting.doing} gave {late} and was killed")
        except WorkerDied as died:
            outcome = Outcome.OUT_OF_MEMORY if "memory" in str(died) else Outcome.WORKER_DIED
            return result(outcome, sitting.stage, f"the worker's process ended during {sitting.doing}: {died}")
        except ProtocolBreak as broken:
            return result(Outcome.REJECTED, sitting.stage, f"the candidate broke the evaluator's protocol: {broken}")
        except Rejected as rejected:
            return result(Outcome.REJECTED, sitting.stage, str(rejected))
        except Wrong as wrong:
            return result(Outcome.WRONG_RESULT, Stage.CHECK, wrong.verdict.message, max_error=wrong.verdict.error)
        detail.update(figures.detail)
        speedup = {
            name: (baseline / figures.time_ms if baseline is not None and figures.time_ms else None)
            for name, baseline in figures.baselines.items()
        }
        return result(
            Outcome.OK,
            Stage.TIME,
            figures.note,
            time_ms=figures.time_ms,
            time_stats=figures.stats,
            baselines=figures.baselines,
            speedup=speedup if figures.time_ms is not None else {},
            provenance=sitting.provenance,
        )


_POISON = {
    torch.bool: True,
    torch.uint8: 0xA5,
    torch.int8: -91,
    torch.int16: -23131,
    torch.int32: -1515870811,
    torch.int64: -6510615555426900571,
}


def _syntax(code: str) -> str:
    """Why the file does not parse, or nothing."""
    try:
        compile(code, "candidate.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()
        return f"SyntaxError: {error.msg} (line {error.lineno}{f': {line}' if line else ''})"
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return f"the file does not parse: {type(error).__name__}: {error}"
    return ""


def _json(slots: list[Slot]) -> list[Any]:
    return [slot.to_json() for slot in slots]


def _leaves(value: list[Any]) -> list[list[Any]]:
    """A worker's description of its outputs, checked for form."""
    for leaf in value:
        ok = isinstance(leaf, list) and len(leaf) == 4 and isinstance(leaf[0], str) and isinstance(leaf[2], str)
        if not ok or not (leaf[1] is None or all(isinstance(size, int) for size in leaf[1])):
            raise ProtocolBreak("the worker's description of what forward returned is malformed")
    return value
