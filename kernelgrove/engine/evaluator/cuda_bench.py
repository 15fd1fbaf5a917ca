"""Judging on a GPU: workers with CUDA, shared device memory, and times measured there."""

from __future__ import annotations

import os
import platform
import statistics
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import triton

from kernelgrove.errors import EnvironmentLacks
from kernelgrove.model import Basis, EvaluationRequest

from . import sandbox
from .arena import Arena, CudaArena
from .judging import Figures, Rejected, Sitting, Wrong
from .locks import Turns
from .protocol import ProtocolBreak, Reply, finite_floats
from .references import JudgedReference
from .structure import pack
from .timing import Figure, Round, figure, repetitions
from .workers import Standby, Worker, WorkerDied, WorkerFailed, WorkerTimeout

_BUDGET_MS = 2000.0  # of GPU time for the timed calls of one candidate, all rounds together
_ROUNDS = 4
_HOST_MEMORY = 32 << 30  # what CUDA reserves on top of a worker's own needs fits in it (tried on an H200)
#: The flush before each call takes about 0.1 ms for this much on a data-centre GPU, in which Python gets ahead: with
#: less, a short kernel behind a long launch path would be timed by its launches.
_MIN_FLUSH = 256 << 20
_COMPILE_LIMIT_S = 300.0  # for torch.compile's baseline
_WARM_CALLS = 5

#: What the baselines run: the reference itself, in a worker like any candidate, so that both pay the same.
_EAGER = "\n\nModelNew = Model\n"
_COMPILED = """

class ModelNew(torch.nn.Module):
    def __init__(self, *init):
        super().__init__()
        self.reference = Model(*init)
        self.compiled = torch.compile(self.reference)

    def forward(self, *inputs):
        return self.compiled(*inputs)
"""
#: Calibrates the timing loop with the smallest kernel there is; what it compiles first is every launcher's.
_NOOP = b"""
import torch
import triton
import triton.language as tl


@triton.jit
def touch(x_ptr, count, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, offsets.to(tl.float32), mask=offsets < count)


class ModelNew:
    def __init__(self):
        self.x = torch.empty(16, device="cuda")
        self()

    def __call__(self):
        touch[(1,)](self.x, 16, BLOCK=16)
        return 0
"""
#: The pickle of no arguments.
_EMPTY = pack([], lambda _: False, [])


class CudaBench:
    basis = Basis.MEASURED

    def __init__(self, device: str, facts: Mapping[str, Any], parallel: int, allow_unsafe: bool) -> None:
        self.device = device
        self.index = torch.device(device).index or 0
        if not torch.cuda.is_available() or self.index >= torch.cuda.device_count():
            raise EnvironmentLacks(f"there is no device {device}: no NVIDIA GPU answers at that number.")
        torch.cuda.set_device(self.index)
        torch.empty(1, device=device)  # the primary context
        self.facts = facts
        self.turns = Turns()
        self.properties = torch.cuda.get_device_properties(self.index)
        l2 = int(getattr(self.properties, "L2_cache_size", 0)) or int(float(facts.get("l2_mb", 50)) * 2**20)
        self.flush_bytes = max(2 * l2, _MIN_FLUSH)
        self._baselines: dict[tuple[str, str], dict[str, float | None]] = {}
        self._baseline_detail: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        uid = 65534 if os.geteuid() == 0 else None
        policy = sandbox.Policy(
            read=sandbox.default_read_paths(),
            scratch="",
            gpu=True,
            uid=uid,
            memory_bytes=_HOST_MEMORY,
            cpu_s=3600,
            file_bytes=4 << 30,
            open_files=4096,
            allow_unsafe=allow_unsafe,
        )
        environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        environment["TORCHINDUCTOR_WORKER_START"] = "subprocess"
        self.nursery = Standby("cuda", policy, environment)
        self._calibration = ThreadPoolExecutor(1, "calibration").submit(self._calibrate)

    # ----------------------------------------------------------------------------------------- the bench

    def fork(self, precision: str) -> Worker:
        return self.nursery.fork(self.device, self.facts, precision)

    def arena(self, size: int) -> Arena:
        return CudaArena.create(size, self.index)

    def figures(self, sitting: Sitting, request: EvaluationRequest) -> Figures:
        """Time the candidate alone on the GPU, on inputs it has seen before, rewritten between two rounds."""
        baselines = self._baselines_of(sitting.reference, request)
        around = self._around()
        with self.turns.alone():
            found = self._measure(sitting, request, around)
        key = _key(sitting.reference)
        detail = {"timing": found.detail, "baselines": self._baseline_detail.get(key, {})}
        return Figures(found.time_ms, baselines, found.stats, detail)

    def software(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "triton": triton.__version__,
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
        }

    def close(self) -> None:
        self.nursery.close()

    # --------------------------------------------------------------------------------------------- timing

    def _measure(self, sitting: Sitting, request: EvaluationRequest, around: float) -> Figure:
        allclose = request.tolerance
        self._loop(sitting, 0, _WARM_CALLS, None)
        estimate = min(self._loop(sitting, 0, 3, None).claims)
        count = repetitions(estimate, around, request.samples, _BUDGET_MS)
        each = -(-count // _ROUNDS)
        # Inputs are rewritten between rounds, and the outputs of every round are checked.
        rounds = [self._loop(sitting, number % 2, each, allclose, check=True) for number in range(_ROUNDS)]
        return figure(rounds, around)

    def _loop(self, sitting: Sitting, number: int, count: int, allclose: float | None, check: bool = False) -> Round:
        """*count* timed calls on case *number*; the last one's outputs are checked where *check*."""
        worker = sitting.worker
        assert worker is not None
        case = sitting.current(number)
        inputs, outputs = sitting.place(case)
        fields = {
            "inputs": [slot.to_json() for slot in inputs],
            "flush_bytes": self.flush_bytes,
            "n": count,
        }
        worker.ask("arm", Reply.ARMED, sitting.timeout_s, fields, [case.packed])
        worker.ask("go", Reply.TIMED, sitting.timeout_s, {})
        wall_ms = worker.wall_s * 1e3
        reply = worker.ask("deliver", Reply.DELIVERED, sitting.timeout_s, {"outputs": sitting.wanted(case, outputs)})
        claims = finite_floats(reply.get("claims"), count)
        if len(claims) != count or min(claims) <= 0:
            raise ProtocolBreak(f"the worker gave {len(claims)} times for {count} calls, or a time of zero")
        if check:
            sitting.delivered(reply, case)
            sitting.verdict(case, allclose)
        return Round(tuple(claims), wall_ms)

    def _around(self) -> float:
        """What an iteration of the timing loop costs around its call, in ms; measured once a bench."""
        return self._calibration.result()

    def _calibrate(self) -> float:
        with self.turns.alone(), self.nursery.fork(self.device, self.facts, "default") as worker:
            arena = self.arena(1 << 12)
            try:
                fields: dict[str, Any] = {
                    "weights": [],
                    "init": [],
                    "seed": 0,
                    "mode": "train",
                    "arena_bytes": arena.size,
                }
                worker.ask("load", Reply.LOADED, 60.0, fields, [_NOOP, _EMPTY, arena.fd])
                self.nursery.seed_from(worker)
                figures = []
                for count in (20, 100, 100):
                    worker.ask(
                        "arm", Reply.ARMED, 60.0, {"inputs": [], "flush_bytes": self.flush_bytes, "n": count}, [_EMPTY]
                    )
                    worker.ask("go", Reply.TIMED, 60.0, {})
                    wall_ms = worker.wall_s * 1e3
                    reply = worker.ask("deliver", Reply.DELIVERED, 60.0, {"outputs": []})
                    claims = finite_floats(reply.get("claims"), count)
                    figures.append(wall_ms / count - statistics.median(claims))
                return max(figures[1:])
            finally:
                arena.close()

    # ------------------------------------------------------------------------------------------- baselines

    def _baselines_of(self, reference: JudgedReference, request: EvaluationRequest) -> dict[str, float | None]:
        """Eager and torch.compile at the same precision, once a judge for each problem."""
        key = _key(reference)
        with self._lock:
            if key not in self._baselines:
                found: dict[str, float | None] = {}
                detail: dict[str, Any] = {}
                for name, tail in (("eager", _EAGER), ("compile", _COMPILED)):
                    try:
                        measured = self._baseline(reference, tail, request)
                        found[name], detail[name] = measured.time_ms, measured.stats
                    except (WorkerFailed, WorkerDied, WorkerTimeout, ProtocolBreak, Wrong, Rejected) as error:
                        found[name], detail[name] = None, {"failed": f"{type(error).__name__}: {error}"[:500]}
                self._baselines[key], self._baseline_detail[key] = found, detail
            return self._baselines[key]

    def _baseline(self, reference: JudgedReference, tail: str, request: EvaluationRequest) -> Figure:
        code = reference.instance.check_source + "\n\nimport torch\n" + tail
        with Sitting(self, reference, code, max(request.timeout_s, _COMPILE_LIMIT_S)) as sitting:
            with self.turns.shared():
                sitting.load(reference.case(0), request.precision)
                sitting.call(reference.case(0), first=True)
            around = self._around()
            with self.turns.alone():
                return self._measure(sitting, request, around)


def _key(reference: JudgedReference) -> tuple[str, str]:
    return f"{reference.instance.digest}:{reference.instance.key}", reference.precision
