"""What a candidate is compared with besides eager PyTorch: ``torch.compile``, by its ratio to eager.

The ratio is found once for a problem, device, precision and software, and kept in a file: compiling takes from seconds
to minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kernelgrove.model import EvaluationRequest

from ..checking.judged_reference import JudgedReference
from ..checking.memory import available
from ..sittings.laps import Laps
from ..sittings.sitting import Again, Bench, Expelled, Sitting
from ..wire.protocol import PROTOCOL_VERSION
from .baselines import Eager, Shelf, Timing, is_lost, seat_of, sitting_of, soundly
from .confirming import confirm

_COMPILED = """

class ModelNew(torch.nn.Module):
    def __init__(self, *init):
        super().__init__()
        self.reference = Model(*init)
        self.compiled = torch.compile(self.reference, mode={mode!r})

    def forward(self, *inputs):
        return self.compiled(*inputs)
"""
#: Baselines besides eager, and torch.compile's mode for each.
MODES = {"compile": "default", "max-autotune": "max-autotune-no-cudagraphs"}


@dataclass(frozen=True)
class Over:
    """eager ÷ a compiled baseline, and its 95 % interval; None where it failed, and ``note`` says why. ``passing``: not
    one to keep, as there may be memory for a better one another time."""

    value: float | None
    interval: tuple[float, float] | None = None
    note: str = ""
    measured_at: str = ""
    passing: bool = False

    @staticmethod
    def of(found: Future[Over]) -> Over:
        """What came of it; where the judge had no memory for it this time, that."""
        try:
            return found.result()
        except (Again, Expelled) as lost:
            return Over(None, note=str(lost))

    def to_json(self) -> dict[str, Any]:
        if self.value is None:
            return {"failed": self.note}
        return {"eager_over_it": self.value, "interval": self.interval, "measured_at": self.measured_at}


class Compiled:
    """Ratios of compiled baselines, each found once, in *threads*, and kept in *folder* (None: not kept)."""

    def __init__(
        self, bench: Bench, shelf: Shelf, timing: Timing, threads: ThreadPoolExecutor, folder: Path | None
    ) -> None:
        self._bench, self._shelf, self._timing, self._threads = bench, shelf, timing, threads
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, Future[Over]] = {}

    def start(self, name: str, reference: JudgedReference, request: EvaluationRequest, software: str) -> Future[Over]:
        """eager ÷ baseline *name*, looked up or being measured. *software* tells what the ratio holds for."""
        key = _key(name, reference, request, software)
        with self._lock:
            if key not in self._known or is_lost(self._known[key]):
                self._known[key] = self._threads.submit(self._find, key, name, reference, request)
            return self._known[key]

    def _find(self, key: str, name: str, reference: JudgedReference, request: EvaluationRequest) -> Over:
        kept = self._read(key)
        if kept is None:
            with self._bench.tenancy.stay(begun=True), self._shelf.borrow(reference, request) as eager:
                found = soundly(lambda: self._measure(name, reference, eager, request))
            kept = found if isinstance(found, Over) else Over(None, note=found)
            self._write(key, kept)
        return kept

    def _measure(
        self, name: str, reference: JudgedReference, eager: Future[Eager | str], request: EvaluationRequest
    ) -> Over:
        def begin(sitting: Sitting) -> None:
            # Compiling is seconds of the host's work and an instant of the GPU's: nobody should wait for it. But
            # max-autotune times kernels itself.
            with self._bench.turns.alone() if name == "max-autotune" else contextlib.nullcontext():
                case = reference.case(0)
                sitting.load(case, request.precision, Laps())
                sitting.call(case, first=True)

        tail = _COMPILED.format(mode=MODES[name])
        with sitting_of(self._bench, reference, tail, request, begin) as sitting:
            base = eager.result()
            if isinstance(base, str):
                return Over(None, note=base)
            with self._timing.exclusive.alone():
                estimate = self._timing.glance(sitting, request)
                seat = None
                for _ in range(2 if base.seat is not None else 0):
                    assert base.seat is not None
                    memory, besides = available(base.seat.device), base.seat.to_come
                    if (seat := seat_of(sitting, self._timing, estimate, memory, request, besides)) is not None:
                        break
                    reference.forget()
                    torch.cuda.empty_cache()
                if seat is None:
                    screened_ms = self._timing.screen(sitting, request).time_ms
                    ratio, passing = base.screened_ms / screened_ms, base.seat is not None
                    return Over(ratio, None, "screened", _now(), passing)
                with seat:
                    found = confirm(seat, base.seat, request.tolerance, self._timing.exclusive.quiet).ratio
                    assert found is not None
            with self._bench.turns.shared():
                seat.pending.settle()
        return Over(found.value, found.interval, measured_at=_now(), passing=seat.short)

    def _read(self, key: str) -> Over | None:
        if self._folder is None:
            return None
        try:
            kept = json.loads((self._folder / f"{key}.json").read_text())
            return Over(
                float(kept["value"]),
                tuple(kept["interval"]) if kept["interval"] else None,
                kept["note"],
                str(kept["measured_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, key: str, over: Over) -> None:
        if self._folder is None or over.value is None or over.passing:
            return
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f"{key}.{os.getpid()}.part"
            kept = {"value": over.value, "interval": over.interval, "note": over.note, "measured_at": over.measured_at}
            part.write_text(json.dumps(kept))
            part.replace(self._folder / f"{key}.json")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _key(name: str, reference: JudgedReference, request: EvaluationRequest, software: str) -> str:
    instance = reference.instance
    parts = [name, reference.key, instance.check_source, instance.mode, reference.precision]
    parts += [software, str(PROTOCOL_VERSION), str(request.tolerance)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
