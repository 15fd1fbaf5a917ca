"""A stand-in evaluator and proposer for tests of the command line: quick, and told by a program's text what to find."""

from __future__ import annotations

import time
from typing import ClassVar

from kernelgrove.errors import EnvironmentLacks, ProblemError
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationRequest,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    Outcome,
    Problem,
    Stage,
)
from kernelgrove.ports import Proposal, ProposalRequest

RIGHT = "kind = 'right'\nclass ModelNew: ...\n"
SLOW = "kind = 'slow'\nclass ModelNew: ...\n"
WRONG = "kind = 'wrong'\nclass ModelNew: ...\n"
BROKEN = "kind = 'broken'\n"
PROBLEM = "class Model: ...\ndef get_inputs(): return []\ndef get_init_inputs(): return []\n"


class StandIn:
    """Judges by the ``kind`` in the first line of a candidate. Remembers what it was asked."""

    parallel = 3
    opened: ClassVar[list[StandIn]] = []

    def __init__(self, device: str, target: str | None, parallel: int | None, allow_unsafe: bool) -> None:
        if device == "cuda:7":
            raise EnvironmentLacks("there is no device cuda:7 on this machine: no NVIDIA driver is loaded.")
        self.target = target or "H100"
        self.requests: list[EvaluationRequest] = []
        self.prepared: list[str] = []
        self.closed = False
        self.opened.append(self)

    def device(self) -> Device:
        return Device("cpu", self.target, f"cpu->{self.target}", Basis.PROJECTED)

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        self.prepared.append(problem.name)
        if "no good" in problem.source:
            raise ProblemError(f"{problem.name}: forward gives NaN.", "Mend it.")
        return Instance(problem.name, problem.digest, size or "full", problem.source, "small", problem.source)

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        self.requests.append(request)
        kind = request.code.splitlines()[0].split("'")[1]
        if kind == "broken":
            return EvaluationResult(Outcome.COMPILE_ERROR, Stage.LOAD, "there is no class ModelNew", trials_of=5)
        if kind == "wrong":
            message = "output 0 differs at [3, 4]:\n2.0 where 1.0 was expected"
            return EvaluationResult(Outcome.WRONG_RESULT, Stage.CHECK, message, 2, 5, 1.0)
        if kind == "slow":
            time.sleep(0.2)
        if not request.timing:
            return EvaluationResult(Outcome.OK, Stage.CHECK, "", 5, 5, 1e-7, Basis.PROJECTED)
        return EvaluationResult(
            Outcome.OK,
            Stage.TIME,
            trials_passed=5,
            trials_of=5,
            max_error=1e-7,
            basis=Basis.PROJECTED,
            time_ms=0.229,
            baselines={"eager": 0.5123, "compile": None},
            speedup={"eager": 0.5123 / 0.229, "compile": None},
            provenance="custom",
            advice=("wider loads may help",),
            detail={"kernels": ["softmax_kernel"]},
        )

    def close(self) -> None:
        self.closed = True


class Muse:
    """A proposer with three ideas an ask; every third program of an idea is wrong."""

    name = "muse"

    def propose(self, request: ProposalRequest) -> Proposal:
        if request.kind is JobKind.IDEATE:
            first = len(request.tried)
            rows = (2**n for n in range(first, first + request.count))
            ideas = tuple(Idea(f"Use {n} rows a program", "fewer programs", "tiling") for n in rows)
            return Proposal(ideas=ideas, note="asked politely")
        kind = "wrong" if request.variant == 2 else "right"
        return Proposal(code=f"kind = '{kind}'\nkey = '{request.key}'\nclass ModelNew: ...\n")
