"""An evaluator that is elsewhere: a search is prepared here, and its evaluations wait for ``kernelgrove drain``."""

from __future__ import annotations

from ..errors import EvaluatorError, UsageError
from ..model import Basis, Device, EvaluationRequest, EvaluationResult, Instance, Problem
from ..ports import Evaluator
from ..problems.sizes import size_name, sized_source
from .gpus import specs


class Elsewhere:
    """Device *name* (``cpu``, ``cuda:0``) with GPU *target*, which need not be here.

    The problem is tried with *local*, an evaluator of this machine's CPU: a reference that does not run is found out
    before anybody waits for it.
    """

    def __init__(self, name: str, target: str | None, local: Evaluator) -> None:
        if name == "auto":
            name = "cpu"
        if name != "cpu" and target is None:
            raise UsageError(
                f"--evaluator queue --device {name} needs --target: the GPU is not here to be asked.",
                "Write --target H200.",
            )
        self._name = name
        self._gpu = specs.find(target or "H100")
        self._local = local
        self.parallel = local.parallel
        self.protocol = local.protocol

    def device(self) -> Device:
        if self._name == "cpu":
            return self._local.device()
        key = self._gpu.matches[0] if self._gpu.matches else self._gpu.vendor_name
        return Device(self._name, self._gpu.name, key, Basis.MEASURED)

    def prepare(self, problem: Problem, size: str | None = None) -> Instance:
        """The instance as the device would have it: on a GPU it is checked at the size that is timed."""
        instance = self._local.prepare(problem, size)
        if self._name == "cpu":
            return instance
        full, source = size_name(problem, size), sized_source(problem, size)
        return Instance(problem.name, problem.digest, full, source, full, source, instance.mode)

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        raise EvaluatorError("this search leaves its evaluations to others.", "Run `kernelgrove drain` on its device.")

    def close(self) -> None:
        self._local.close()
