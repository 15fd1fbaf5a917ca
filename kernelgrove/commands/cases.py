"""Opening an evaluator from options, and judging many candidates with results in the order they were asked for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ..errors import KernelGroveError, UsageError
from ..model import EvaluationRequest, EvaluationResult, Instance, Problem
from ..ports import Evaluator


def check_device(device: str) -> str:
    """*device* in its full spelling. Raises UsageError for anything but auto, cpu, cuda and cuda:N."""
    if device == "cuda":
        return "cuda:0"
    if not re.fullmatch(r"auto|cpu|cuda:\d+", device):
        raise UsageError(f"There is no kind of device {device!r}.", "Write --device auto, cpu or cuda:0.")
    return device


def open_pool(device: str, target: str | None, *, parallel: int | None = None, allow_unsafe: bool = False) -> Evaluator:
    """The evaluator for these options. The cheap questions come first: the device's spelling, the target's name.

    Raises UsageError for an unknown device or target, EnvironmentLacks for a device that is not there.
    """
    device = check_device(device)
    if target is not None:
        from ..engine.gpus import specs

        specs.find(target)
    from ..engine.evaluator.pool import Pool

    return Pool(device=device, target=target, parallel=parallel, allow_unsafe=allow_unsafe)


@dataclass(frozen=True)
class Case:
    """One candidate to judge: *candidate* is its file as the user wrote it."""

    problem: Problem
    candidate: str
    code: str
    size: str | None = None


@dataclass
class _Instances:
    """Instances by (problem, size), prepared once however many threads ask."""

    evaluator: Evaluator
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _made: dict[tuple[str, str | None], Future[Instance]] = field(default_factory=dict)

    def get(self, problem: Problem, size: str | None) -> Instance:
        key = (problem.digest, size)
        with self._guard:
            mine = key not in self._made
            future = self._made.setdefault(key, Future())
        if mine:
            try:
                future.set_result(self.evaluator.prepare(problem, size))
            except BaseException as error:
                future.set_exception(error)
        return future.result()


def judge(
    evaluator: Evaluator, cases: Sequence[Case], settings: EvaluationRequest
) -> Iterator[EvaluationResult | KernelGroveError]:
    """Judge *cases* in ``evaluator.parallel`` threads; yield one result a case, in order, as soon as it is there.

    *settings* gives everything but instance and code. Where a problem itself is at fault, its ProblemError stands in
    the place of a result. Any other error is raised, and what has not started is dropped.
    """
    instances = _Instances(evaluator)

    def one(case: Case) -> EvaluationResult | KernelGroveError:
        from ..errors import ProblemError

        try:
            instance = instances.get(case.problem, case.size)
        except ProblemError as error:
            return error
        return evaluator.evaluate(replace(settings, instance=instance, code=case.code))

    threads = ThreadPoolExecutor(max_workers=max(1, evaluator.parallel), thread_name_prefix="eval")
    try:
        futures = [threads.submit(one, case) for case in cases]
        for future in futures:
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
