"""Whom memory ran out for beside others is judged once more, alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator import judging
from kernelgrove.engine.evaluator.company import Company
from kernelgrove.engine.evaluator.sittings.sitting import EXPELLED
from kernelgrove.errors import EvaluatorError
from kernelgrove.model import Basis, EvaluationResult, Outcome, Stage

KILLED = "the worker's process ended during forward: killed by SIGKILL (out of memory?)"


def result(outcome: Outcome, message: str = "", basis: Basis = Basis.PROJECTED) -> EvaluationResult:
    return EvaluationResult(outcome, Stage.RUN, message, basis=basis, wall_s=1.0)


class Pair:
    """Two are judged together; the first ends as it is told, and then as ``alone`` says."""

    def __init__(self, first: EvaluationResult, alone: EvaluationResult) -> None:
        self.company, self.met = Company(self.recover), threading.Barrier(2, timeout=10)
        self.first, self.alone, self.judged, self.others, self.recovered = first, alone, 0, 0, 0

    def recover(self) -> None:
        assert self.others == 0
        self.recovered += 1

    def candidate(self) -> EvaluationResult:
        self.judged += 1
        if self.judged > 1:
            assert self.others == 0 and self.recovered == 1  # the neighbour is through, and memory given back
            return self.alone
        self.met.wait()
        return self.first

    def neighbour(self) -> EvaluationResult:
        self.others += 1
        self.met.wait()
        self.others -= 1
        return result(Outcome.OK)

    def run(self) -> EvaluationResult:
        with ThreadPoolExecutor(2) as threads:
            found = threads.submit(self.company.judge, self.candidate)
            assert threads.submit(self.company.judge, self.neighbour).result(10).outcome is Outcome.OK
            return found.result(10)


@pytest.mark.parametrize(
    "first",
    [
        result(Outcome.OUT_OF_MEMORY, KILLED),
        result(Outcome.WORKER_DIED, "killed by SIGKILL"),
        result(Outcome.OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory", Basis.MEASURED),
        result(Outcome.WORKER_DIED, f"the worker's process ended during timing: killed by the evaluator: {EXPELLED}"),
        result(Outcome.WORKER_DIED, "the worker's process ended during forward: its nursery died"),
    ],
)
def test_judged_again_where_it_may_have_been_anothers_doing(first: EvaluationResult):
    stage = Pair(first, result(Outcome.OK))
    found = stage.run()
    assert found.outcome is Outcome.OK and stage.judged == 2 and found.wall_s == 2.0
    assert found.detail["judged_again_after"] == first.message


@pytest.mark.parametrize(
    "first",
    [
        result(Outcome.OK),
        result(Outcome.OUT_OF_MEMORY, "MemoryError"),
        result(Outcome.OUT_OF_MEMORY, "on inputs of zeros: MemoryError", Basis.MEASURED),
        result(Outcome.WORKER_DIED, "killed by SIGSEGV"),
        result(Outcome.WORKER_DIED, "killed by the evaluator: its scratch folder holds more than 2048 MiB"),
        result(Outcome.TIMEOUT, "was killed"),
    ],
)
def test_not_where_it_was_its_own(first: EvaluationResult):
    stage = Pair(first, result(Outcome.OK))
    assert stage.run() is first and stage.judged == 1 and stage.recovered == 0


def test_not_where_it_was_alone():
    company, judged = Company(lambda: None), []
    company.judge(lambda: judged.append(1) or result(Outcome.OK))
    assert company.judge(lambda: judged.append(1) or result(Outcome.OUT_OF_MEMORY, KILLED)).message == KILLED
    assert len(judged) == 2


@pytest.mark.parametrize("second", [result(Outcome.OK), result(Outcome.REJECTED, "it keeps the GPU busy")])
def test_who_seemed_to_keep_the_gpu_busy_is_judged_once_more(monkeypatch: pytest.MonkeyPatch, second: EvaluationResult):
    """It may have been another program's doing; twice it hardly was."""
    busy = EvaluationResult(Outcome.REJECTED, Stage.TIME, "it keeps the GPU busy", detail={"restless": True})
    found = iter([busy, second])
    monkeypatch.setattr(judging, "_judge", lambda *_: next(found))
    assert judging.judge(None, lambda: None, None) is second  # type: ignore[arg-type]
    assert next(found, None) is None


@pytest.mark.parametrize("known", [True, False])
def test_who_leaves_the_judge_no_memory_twice_is_told_so(monkeypatch: pytest.MonkeyPatch, known: bool):
    """Of a problem that never had a case, it is the problem that is too large."""

    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")

    monkeypatch.setattr(judging, "_judge", short)
    bench: Any = SimpleNamespace(recover=lambda: None, basis=Basis.MEASURED)
    reference: Any = SimpleNamespace(known=known, forget=lambda: None)
    if not known:
        with pytest.raises(EvaluatorError, match="could not be judged: CUDA out of memory"):
            judging.judge(bench, lambda: reference, None)  # type: ignore[arg-type]
        return
    found = judging.judge(bench, lambda: reference, None)  # type: ignore[arg-type]
    assert (
        found.outcome is Outcome.OUT_OF_MEMORY and found.message == "it leaves the judge no memory: CUDA out of memory."
    )
    assert Pair(found, result(Outcome.OK)).run().outcome is Outcome.OK
