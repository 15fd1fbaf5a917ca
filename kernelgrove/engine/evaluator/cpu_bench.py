"""Judging without a GPU: correctness in Triton's interpreter at a small size, speed projected at full size."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import triton

from kernelgrove.errors import EnvironmentLacks
from kernelgrove.model import Backend, Basis, EvaluationRequest, Instance, Provenance

from . import sandbox
from .checking.judged_reference import JudgedReference
from .checking.tensors import is_tensor
from .projection.aten import reference_works
from .projection.model import Projection, compulsory_bytes, project
from .sittings.laps import Laps
from .sittings.sitting import Figures, Rank, Sitting
from .turns.locks import Turns
from .turns.tenancy import Tenancy
from .wire.arena import Arena, CpuArena
from .wire.protocol import Reply
from .wire.structure import flatten
from .wire.work import Compiled, Work
from .workers.dry import Dry
from .workers.handle import Order, Prepared, Worker, WorkerFailed, WorkerTimeout
from .workers.standby import Standby

_COMPILE_LIMIT_S = 60.0
_COUNT_LIMIT_S = 60.0


class FullSize:
    """A problem at full size on the meta device: what dry launches need, and what eager PyTorch is projected at."""

    def __init__(self, instance: Instance, precision: str, facts: Mapping[str, Any]) -> None:
        self.dry = Dry(instance)
        model = self.dry.reference.make(0, "meta")
        outputs: list[Any] = []
        works = reference_works(lambda: outputs.append(_no_grad(model, self.dry.given)), precision)
        produced = [leaf for _, leaf in flatten(outputs[0]) if is_tensor(leaf)]
        parameters = list(model.parameters())
        self.compulsory = compulsory_bytes(self.dry.tensors, produced, parameters)
        self.eager: Projection = project(works, None, facts, self.compulsory)


class CpuBench:
    basis = Basis.PROJECTED
    device = "cpu"

    def __init__(self, facts: Mapping[str, Any], parallel: int, allow_unsafe: bool) -> None:
        self.facts = facts
        self.turns = Turns()
        self.tenancy = Tenancy(None)
        torch.set_num_threads(1)
        available = _available_memory()
        self.policy = sandbox.Policy(
            read=sandbox.default_read_paths(),
            scratch="",
            gpu=False,
            uid=65534 if os.geteuid() == 0 else None,
            memory_bytes=max(1 << 30, min(4 << 30, available // (parallel + 1))),
            cpu_s=1800,
            file_bytes=1 << 30,
            open_files=1024,
            allow_unsafe=allow_unsafe,
        )
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.interpreting = Standby("interpret", self.policy, environment)
        self.compiling = Standby("compile", self.policy, environment)
        self._full: dict[tuple[str, str], FullSize | str] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(2 * parallel, thread_name_prefix="dry")

    def compile_ahead(self, request: EvaluationRequest) -> Prepared | None:
        if request.backend == Backend.CUDA:
            raise EnvironmentLacks(
                "The backend cuda needs a GPU: CUDA C++ cannot be interpreted.", "Use --backend triton, or a GPU."
            )
        return None  # a candidate that is wrong should not be compiled; one that is right is, for its figure

    def begin(self, reference: JudgedReference, request: EvaluationRequest) -> None:
        """Nothing: the reference is projected at its first candidate's figure."""

    def enter(self) -> None:
        """Every thread uses the CPU."""

    def recover(self, least: int | None = None) -> None:
        """Nothing is kept that could be given back."""

    def fork(self, order: Order, rank: Rank = Rank.CANDIDATE) -> Worker:
        return self.interpreting.fork("cpu", self.facts, order)

    def arena(self, size: int) -> Arena:
        return CpuArena.create(size)

    def figures(self, sitting: Sitting, request: EvaluationRequest, laps: Laps, advise: Callable[[], None]) -> Figures:
        """Compile for the target and count at full size, both without running the kernel; then project.

        Raises WorkerFailed with the compiler's own message where the candidate does not compile for the target.
        """
        with laps.lap("projecting"):
            found = self._figures(sitting, request)
        advise()
        return found

    def _figures(self, sitting: Sitting, request: EvaluationRequest) -> Figures:
        full = self._full_size(request)
        if isinstance(full, str):
            return Figures(None, dict.fromkeys(request.baselines), note=full)
        sitting.doing = f"compiling for {self.facts.get('name')}"
        compiling = self._pool.submit(self._compile, full, request)
        try:
            works = self._count(full, request)
        finally:
            compiled = compiling.result()
        baselines: dict[str, float | None] = {**dict.fromkeys(request.baselines), "eager": full.eager.time_ms}
        if isinstance(compiled, str) or isinstance(works, str):
            return Figures(None, baselines, note=compiled if isinstance(compiled, str) else str(works))
        if sitting.provenance in (Provenance.CUSTOM, Provenance.MIXED) and all(work.kind != "triton" for work in works):
            note = "no projection: at full size it launched no Triton kernel, as it does at the size that is checked"
            return Figures(None, baselines, note=note)
        projection = project(works, compiled, self.facts, full.compulsory)
        detail: dict[str, Any] = {"compiled": [item.to_json() for item in compiled][:16]}
        detail["projection"] = projection.to_json()
        detail["eager"] = full.eager.to_json()
        detail["floor_ms"] = full.compulsory / float(self.facts["bandwidth_gbs"]) / 1e6
        return Figures(projection.time_ms, baselines, detail=detail)

    def software(self) -> dict[str, str]:
        return {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version()}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.interpreting.close()
        self.compiling.close()

    def _full_size(self, request: EvaluationRequest) -> FullSize | str:
        """The problem at full size, or why there is no projection. Made once a problem."""
        key = (f"{request.instance.digest}:{request.instance.key}", request.precision)
        with self._lock:
            if key not in self._full:
                try:
                    self._full[key] = FullSize(request.instance, request.precision, self.facts)
                except Exception as error:  # whatever the reference does on meta tensors, it is no candidate's fault
                    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                    self._full[key] = f"no projection: the reference does not run on the meta device ({text})"
            return self._full[key]

    def _compile(self, full: FullSize, request: EvaluationRequest) -> list[Compiled] | str:
        """Raises WorkerFailed where the compiler refuses the kernel, WorkerTimeout where it does not end; whatever
        else goes wrong is "no projection"."""
        try:
            with self.compiling.fork("meta", self.facts, Order(request.precision)) as worker:
                limit = min(_COMPILE_LIMIT_S, request.timeout_s)
                reply = worker.ask("compile", Reply.COMPILED, limit, *full.dry.request(request.code))
        except WorkerFailed as failed:
            if failed.outcome == "compile_error" and failed.stage == "compile":
                raise
            return f"no projection: {failed.message}"
        return [Compiled.from_json(item) for item in reply["compiled"]]

    def _count(self, full: FullSize, request: EvaluationRequest) -> list[Work] | str:
        """Counts, or in words why they cannot be had: a correct kernel is not failed for that."""
        try:
            with self.interpreting.fork("meta", self.facts, Order(request.precision)) as worker:
                limit = min(_COUNT_LIMIT_S, request.timeout_s)
                reply = worker.ask("count", Reply.COUNTED, limit, *full.dry.request(request.code))
        except WorkerFailed as failed:
            return f"no projection: {failed.message}"
        except WorkerTimeout as late:
            return f"no projection: counting at full size gave {late}"
        if reply["launches"] > len(reply["works"]):
            return f"no projection: one call makes {reply['launches']} launches, more than can be counted one by one"
        return [Work.from_json(item) for item in reply["works"]]


def _no_grad(model: Any, inputs: list[Any]) -> Any:
    with torch.no_grad():
        return model(*inputs)


def _available_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 8 << 30
