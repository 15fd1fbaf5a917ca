"""Judging on a GPU: workers with CUDA, shared device memory, and times measured there."""

from __future__ import annotations

import math
import platform
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton

from kernelgrove.engine.gpus.state import State
from kernelgrove.errors import EnvironmentLacks
from kernelgrove.model import Backend, Basis, EvaluationRequest

from . import sandbox
from .checking.judged_reference import JudgedReference
from .checking.memory import available
from .sittings.laps import Laps
from .sittings.sitting import Figures, Rank, Rejected, Sitting
from .timing import calibration
from .timing.bandwidth import Bandwidth, copying
from .timing.baselines import Eager, Shelf, Timing
from .timing.compiled import Compiled, Over
from .timing.confirming import Confirmed, confirm
from .timing.empties import Empties
from .timing.exclusive import Exclusive
from .timing.figures import Figure
from .timing.memory import l2_bytes
from .timing.pending import Held, Pending
from .timing.physics import SHARE, physical_floor
from .timing.seats import NO_MEMORY, NoRoom, Overestimated, Seat
from .timing.turnstile import kernels
from .turns.locks import Ranks, Turns
from .turns.tenancy import Tenancy, of_gpu
from .wire.arena import Arena, CudaArena
from .wire.driver import CudaError
from .workers.ahead import Ahead
from .workers.gpu_nurseries import Nurseries
from .workers.handle import Order, Prepared, Worker, WorkerFailed
from .workers.spares import Spares

#: The flush before each screened call takes about 0.1 ms for this much on a data-centre GPU, in which Python gets
#: ahead: with less, a short kernel behind a long launch path would be timed by its launches.
_MIN_FLUSH = 256 << 20
#: Screened times this much over the time to beat are not confirmed. Screened and sealed differ by what a kernel leaves
#: in L2 for the next one to write back: up to 8 % was seen.
_HOPELESS = 1.15

#: Workers that are made at once: the driver makes one context after another, and more of them make each come later (two
#: at once: one every 0.2 s; four: one every 0.16 s; twelve: one every 0.14 s, each after 1.7 s). And those that wait.
_FORKS, _SPARES = 4, 6

FICKLE = "calls took a fraction of what they had taken before, three times over: no chunk of them has the right size"

#: This share of the device's memory may be held by timed calls that are still to be compared.
_HELD = 12

#: What PyTorch in the judge keeps of freed tensors is given back where a candidate would find less than this free.
_SPARE_BYTES = 8 << 30


class CudaBench:
    basis = Basis.MEASURED

    def __init__(
        self, device: str, facts: Mapping[str, Any], parallel: int, nurseries: Nurseries, cache: Path | None
    ) -> None:
        self.device = device
        self.index = torch.device(device).index or 0
        if not torch.cuda.is_available() or self.index >= torch.cuda.device_count():
            raise EnvironmentLacks(f"there is no device {device}: no NVIDIA GPU answers at that number.")
        self.enter()
        torch.empty(1, device=device)  # the primary context
        self.facts = facts
        self.turns = Turns()
        self.properties = torch.cuda.get_device_properties(self.index)
        self.state = State(_bus_id(self.properties))
        self.tenancy = Tenancy(of_gpu(_bus_id(self.properties)))
        self.l2_bytes = l2_bytes(self.index, int(float(facts.get("l2_mb", 50)) * 2**20))
        self._precision, self._parallel = "default", parallel  # what spares are made for, and how many
        of_table = (list(facts["capability"]), int(facts["shared_kb_per_block"]) << 10)
        here = (
            [self.properties.major, self.properties.minor],
            getattr(self.properties, "shared_memory_per_block_optin", None),
        )
        self._compiled_for_this = of_table == here  # the table's GPU may only be the nearest one
        self._software = repr(sorted({**self.software(), "gpu": self.properties.name}.items()))
        self._lock = threading.Lock()
        self.nursery = nurseries.cuda
        self.bandwidth = Bandwidth(copying(device))
        with self.tenancy.stay():
            before, quiet = self._await_calibration, self.bandwidth.settle
            self.exclusive = Exclusive(device, self.turns, self.nursery, before, quiet)
        self.flush_bytes = max(2 * self.l2_bytes, _MIN_FLUSH)
        self._forks = Ranks(_FORKS)
        self.ahead = Ahead(nurseries.dry, facts)
        self._calibration = ThreadPoolExecutor(1, "calibration", self.enter).submit(self._calibrate)
        # One that replaces a dead one is made while somebody is alone: it takes no turn.
        empties = Empties(
            lambda: self.nursery.fork(self.device, self.facts, Order(self._precision, one_queue=True)),
            self.exclusive.still,
        )
        held = Held(self.properties.total_memory // _HELD)
        self.timing = Timing(empties, held, self.flush_bytes, self._around, self.exclusive)
        self._background = ThreadPoolExecutor(
            2 * max(2, parallel), thread_name_prefix="baseline", initializer=self.enter
        )
        self.spares = self._new_spares()
        self.shelf = Shelf(self, self.timing, self._background)
        folder = cache / "baselines" if cache is not None else None
        self.compiled = Compiled(self, self.shelf, self.timing, self._background, folder)

    # ----------------------------------------------------------------------------------------- the bench

    def enter(self) -> None:
        torch.cuda.set_device(self.index)

    def fork(self, order: Order, rank: Rank = Rank.CANDIDATE) -> Worker:
        """A worker in waiting, or one made now where none waits, or it has to live at a certain path or to have several
        queues."""
        prepared = order.prepared
        if not order.one_queue or (prepared is not None and prepared.scratch is not None):
            return self._forked(order, rank)
        with self._lock:
            if order.precision != self._precision:  # a judge works at one; nobody knew which before
                self.spares.close()
                self._precision = order.precision
                self.spares = self._new_spares()
        worker = self.spares.take() or self._forked(replace(order, prepared=None), rank)
        if prepared is not None:
            worker.furnish(prepared.folder)
        return worker

    def arena(self, size: int) -> Arena:
        self.recover(max(_SPARE_BYTES, 4 * size))
        return CudaArena.create(size, self.index)

    def recover(self, least: int | None = None) -> None:
        if least is None or torch.cuda.mem_get_info(self.index)[0] < least:
            torch.cuda.empty_cache()

    def compile_ahead(self, request: EvaluationRequest) -> Prepared | None:
        if request.backend == Backend.CUDA:
            for tool, cure in (("nvcc", "Install the CUDA toolkit, or set CUDA_HOME."), ("ninja", "pip install ninja")):
                if shutil.which(tool, path=sandbox.SEARCH_PATH) is None:
                    raise EnvironmentLacks(
                        f"The backend cuda needs {tool}, which is not on {sandbox.SEARCH_PATH}.", cure
                    )
        prepared = self.ahead.compile(request)
        if prepared is not None and prepared.refused and not self._compiled_for_this:
            return replace(prepared, refused=False)
        return prepared

    def begin(self, reference: JudgedReference, request: EvaluationRequest) -> None:
        self.shelf.begin(reference, request)
        for name in request.baselines:
            if name != "eager":
                self.compiled.start(name, reference, request, self._software)

    def figures(self, sitting: Sitting, request: EvaluationRequest, laps: Laps, advise: Callable[[], None]) -> Figures:
        """Screen the candidate, and confirm it under seal beside eager PyTorch if it may beat ``request.best_ms``."""
        reference = sitting.reference
        with self.shelf.borrow(reference, request) as eager:
            over = {
                name: self.compiled.start(name, reference, request, self._software)
                for name in request.baselines
                if name != "eager"
            }
            with laps.lap("waiting for the baseline"):
                base = eager.result()
            confirmed: Confirmed | None = None
            pending = Pending(self.timing.held)
            assert sitting.worker is not None
            with laps.lap("waiting"), self.exclusive.alone(sitting.worker, laps=laps):
                hopeless_ms = math.inf if request.best_ms is None else _HOPELESS * request.best_ms
                screened: Figure | None = None
                with laps.lap("screening"):
                    estimate_ms = self.timing.glance(sitting, request)
                    if estimate_ms > hopeless_ms:
                        screened = self.timing.screen(sitting, request)
                        estimate_ms = screened.claim_ms
                if estimate_ms <= hopeless_ms:
                    with laps.lap("confirming"):
                        confirmed = self._confirm(sitting, estimate_ms, base, pending, request)
                if confirmed is None and screened is None:
                    with laps.lap("screening"):
                        screened = self.timing.screen(sitting, request)
            with laps.lap("waiting"), self.turns.shared():  # whatever need not be done alone is not
                with laps.lap("checking timed calls"):
                    pending.settle()
                advise()
        state = {
            **self.state.read(),
            "shared_with_others": self.exclusive.shared,
            "one_hardware_queue": sitting.one_queue,
        }
        figure = confirmed.figure if confirmed is not None else screened
        assert figure is not None
        floor = physical_floor(reference, self.facts, self.l2_bytes)
        if floor is not None and figure.time_ms < floor.ms:
            raise Rejected(f"quarantined: {figure.time_ms:.4g} ms is less than {floor.why}")
        with laps.lap("waiting for the baseline"):
            ratios = {name: Over.of(found) for name, found in over.items()}
        found = _figures(figure, confirmed, base, ratios, state)
        if floor is not None:
            found.detail["floor_ms"] = floor.ms / SHARE
        return found

    def _confirm(
        self, sitting: Sitting, estimate_ms: float, base: Eager | str, pending: Pending, request: EvaluationRequest
    ) -> Confirmed | None:
        """None where there is no memory for it: a screened figure then stands, and says that it is one. In *pending*
        are the comparisons that are still to be made."""
        seat_of_eager, times_left, anew_left = base.seat if isinstance(base, Eager) else None, 2, 2
        call_ms: float | None = None
        while times_left:
            pending.waits = times_left > 1  # what is short is not held
            besides = seat_of_eager.to_come if seat_of_eager is not None else 0
            memory = available(self.index)
            of = (sitting, self.timing.empties, pending, estimate_ms, memory, request.timeout_s, besides)
            try:
                with Seat(*of, call_ms=call_ms) as seat:
                    return confirm(seat, seat_of_eager, request.tolerance, self.exclusive.quiet, anew=True)
            except Overestimated as found:
                call_ms, anew_left = found.call_ms, anew_left - 1
                pending.drop()
                if anew_left < 0:
                    raise Rejected(FICKLE) from None
                continue
            except (NoRoom, CudaError, torch.OutOfMemoryError):
                times_left -= 1  # with the error goes what every frame below it had in hand
            pending.drop()
            sitting.reference.forget()  # what the judge itself can do without may be what there is no room beside
            torch.cuda.empty_cache()
        if seat_of_eager is not None:  # there was room for the reference
            raise WorkerFailed("out_of_memory", "time", NO_MEMORY)
        return None

    def software(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "triton": triton.__version__,
            "cuda": str(torch.version.cuda),
            "python": platform.python_version(),
        }

    def _forked(self, order: Order, rank: Rank) -> Worker:
        with self._forks.turn(rank), self.turns.shared():  # it uses the GPU: not while somebody is timed
            return self.nursery.fork(self.device, self.facts, order)

    def _new_spares(self) -> Spares:
        order = Order(self._precision, one_queue=True)
        count = min(self._parallel, _SPARES)
        return Spares(lambda: self._forked(order, Rank.SPARE), count, self._calibration)

    def close(self) -> None:
        self.spares.close()
        self._background.shutdown(wait=False, cancel_futures=True)
        self.ahead.close()
        self.nursery.close()

    # --------------------------------------------------------------------------------------------- timing

    def _await_calibration(self) -> None:
        self._calibration.exception()  # what is timed needs it, and it needs a turn itself

    def _around(self) -> float:
        """What an iteration of the screening loop costs around its call, in ms; measured once a bench."""
        return self._calibration.result()

    def _calibrate(self) -> float:
        with ThreadPoolExecutor(1, "kernels", self.enter) as beside:
            compiled = beside.submit(kernels, self.index)
            with self.tenancy.stay(begun=True), self._forked(Order(one_queue=True), Rank.CALIBRATION) as worker:
                arena = self.arena(1 << 12)
                try:
                    calibration.load(worker, arena)
                    compiled.result()  # compiling would disturb whoever looks at a clock
                    with self.turns.alone(), self.nursery.frozen():
                        self.exclusive.settle()
                        return calibration.around(worker, self.flush_bytes)
                finally:
                    arena.close()


def _figures(
    figure: Figure, confirmed: Confirmed | None, base: Eager | str, over: Mapping[str, Over], state: dict[str, Any]
) -> Figures:
    """One document of figures: a speedup from paired chunks where there are any, else from screened times."""
    detail: dict[str, Any] = {"timing": figure.detail, "state": state}
    baselines: dict[str, float | None] = {"eager": None, **dict.fromkeys(over)}
    if isinstance(base, str):
        detail["baselines"] = {"eager": {"failed": base}}
    else:
        eager_ms = base.screened_ms if confirmed is None else confirmed.baseline_ms or base.screened_ms
        baselines["eager"] = eager_ms
        baselines |= {name: eager_ms / found.value if found.value else None for name, found in over.items()}
        detail["baselines"] = {name: found.to_json() for name, found in over.items()}
        detail["baselines"]["eager"] = {"seconds": base.seconds}
        if confirmed is not None and confirmed.ratio is not None:
            # Where the judge's clock overruled the claims, the ratio of claims goes down with them.
            honest = confirmed.claim_ms / figure.time_ms
            low, high = (bound * honest for bound in confirmed.ratio.interval)
            if eager_ms is not None:  # chunks' middles may differ from that of all calls, which the score is of
                low, high = min(low, eager_ms / figure.time_ms), max(high, eager_ms / figure.time_ms)
            detail["speedup_interval"] = {"eager": [low, high]}
            detail["improved"] = {"eager": low > 1.0}
    return Figures(
        figure.time_ms,
        baselines,
        figure.stats,
        detail,
        interval=figure.interval,
        timing="screened" if confirmed is None else "sealed",
    )


def _bus_id(properties: Any) -> str:
    numbers = [int(getattr(properties, name, 0)) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
    return "{:08x}:{:02x}:{:02x}.0".format(*numbers)
