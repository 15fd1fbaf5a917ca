"""What a candidate is compared with: eager PyTorch, timed beside it.

A baseline runs as ``ModelNew`` in a worker of its own, sandboxed and timed like a candidate, so that both pay the same
costs. Those that are compiled are in ``compiled.py``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from kernelgrove.model import EvaluationRequest

from ..checking.judged_reference import JudgedReference
from ..checking.memory import available
from ..sittings.laps import Laps
from ..sittings.sitting import Again, Bench, Rejected, Sitting, Wrong
from ..wire.arena import CudaArena
from ..wire.driver import CudaError
from ..wire.protocol import ProtocolBreak
from ..workers.handle import WorkerDied, WorkerFailed, WorkerTimeout
from .empties import Empties
from .exclusive import Exclusive
from .figures import Figure
from .pending import Held, Pending
from .screening import glance, screen
from .seats import NoRoom, Seat

_LIMIT_S = 300.0  # for torch.compile; max-autotune tries many kernels
_EAGER = "\n\nModelNew = Model\n"
_T = TypeVar("_T")
FAILURES = (WorkerFailed, WorkerDied, WorkerTimeout, ProtocolBreak, Wrong, Rejected)


@dataclass(frozen=True)
class Timing:
    """What timing needs of its bench."""

    empties: Empties
    held: Held
    flush_bytes: int
    around: Callable[[], float]
    exclusive: Exclusive

    def screen(self, sitting: Sitting, request: EvaluationRequest) -> Figure:
        return screen(
            sitting, self.flush_bytes, self.around(), request.samples, request.tolerance, self.exclusive.settle
        )

    def glance(self, sitting: Sitting, request: EvaluationRequest) -> float:
        return glance(sitting, self.flush_bytes, self.around(), request.tolerance)


class Eager:
    """The reference as it is, in a worker that stays, with its screened time; ``seconds`` tells what making it took."""

    def __init__(
        self, bench: Bench, reference: JudgedReference, request: EvaluationRequest, timing: Timing, commons: Commons
    ) -> None:
        laps = Laps()
        self.seconds = laps.seconds

        def begin(sitting: Sitting) -> None:
            with bench.turns.shared():
                sitting.load(reference.case(0), request.precision, Laps())
                sitting.call(reference.case(0), first=True)
                sitting.call(reference.case(0), first=False, observe=True)

        with laps.lap("loading"):
            self.sitting = sitting_of(bench, reference, _EAGER, request, begin)
        try:
            with bench.turns.shared():  # it uses the GPU: not while somebody is timed
                timing.empties.start()
            with laps.lap("waiting"), timing.exclusive.alone():
                with laps.lap("screening"):
                    self.screened_ms = timing.screen(self.sitting, request).time_ms
                with laps.lap("calibrating"):
                    self.seat: Seat | None = None
                    if arena := commons.arena():
                        self.seat = seat_of(self.sitting, timing, self.screened_ms, arena.size, request, arena=arena)
                if self.seat is None:
                    self.sitting.close()  # its memory is needed elsewhere
                else:
                    with laps.lap("first chunk"):
                        self.seat.chunk(None, checked=0)  # finds out how many calls can be queued
                    self.seat.rest()
        except BaseException:
            self.sitting.close()
            raise

    @property
    def lost(self) -> bool:
        """Whether its worker has failed since."""
        return self.seat is not None and self.seat.lost

    def close(self) -> None:
        if self.seat is not None:
            self.seat.close()
        self.sitting.close()


def seat_of(
    sitting: Sitting,
    timing: Timing,
    estimate_ms: float,
    memory: int,
    request: EvaluationRequest,
    besides: int = 0,
    arena: CudaArena | None = None,
) -> Seat | None:
    of = (sitting, timing.empties, Pending(timing.held), estimate_ms, memory, request.timeout_s)
    try:
        return Seat(*of, besides=besides, arena=arena)
    except NoRoom:
        return None


class Commons:
    """An arena for the chunks of all eager baselines, of which one is timed at a time."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._arena: CudaArena | None = None

    def arena(self) -> CudaArena | None:
        """None where there is no memory for one. For who is alone."""
        if self._arena is None:
            with contextlib.suppress(CudaError):
                self._arena = CudaArena.create(available(self._device) // 24, self._device)
        return self._arena


@dataclass
class _Entry:
    future: Future[Eager | str]
    users: int = 0


class Shelf:
    """Eager baselines of the problems judged last, each made once, in *threads*. Thread-safe."""

    def __init__(self, bench: Bench, timing: Timing, threads: ThreadPoolExecutor, kept: int = 8) -> None:
        self._bench, self._timing, self._threads, self._kept = bench, timing, threads, kept
        self._commons = Commons(torch.device(bench.device).index or 0)
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def begin(self, reference: JudgedReference, request: EvaluationRequest) -> None:
        """Start making the eager baseline of *reference*, if it is not there."""
        with self.borrow(reference, request):
            pass

    @contextlib.contextmanager
    def borrow(self, reference: JudgedReference, request: EvaluationRequest) -> Iterator[Future[Eager | str]]:
        """The eager baseline of *reference*, or why there is none; it stays as long as somebody has it borrowed."""

        def make() -> Eager | str:
            with self._bench.tenancy.stay(begun=True):
                return soundly(lambda: Eager(self._bench, reference, request, self._timing, self._commons))

        with self._lock:
            if reference.key not in self._entries or is_lost(self._entries[reference.key].future):
                if (lost := self._entries.get(reference.key)) is not None:
                    self._threads.submit(self._dismiss, lost)
                self._entries[reference.key] = _Entry(self._threads.submit(make))
            entry = self._entries[reference.key]
            entry.users += 1
            self._entries.move_to_end(reference.key)
        try:
            yield entry.future
        finally:
            with self._lock:
                entry.users -= 1
                idle = [key for key, kept in self._entries.items() if not kept.users and kept.future.done()]
                for key in idle[: max(0, len(self._entries) - self._kept)]:
                    self._threads.submit(self._dismiss, self._entries.pop(key))

    def _dismiss(self, entry: _Entry) -> None:
        eager = None if entry.future.exception() is not None else entry.future.result()
        if isinstance(eager, Eager):
            with self._bench.tenancy.stay(begun=True), self._bench.turns.alone():
                eager.close()


def soundly(make: Callable[[], _T]) -> _T | str:
    """What *make* gives, or why the baseline failed. Raises Again where the judge had no memory for it: another time
    it may."""
    try:
        return make()
    except FAILURES as error:
        return f"{type(error).__name__}: {error}"[:500]
    except (CudaError, torch.OutOfMemoryError) as error:
        short = str(error)  # the error itself would keep alive what every frame below had in hand
    raise Again(f"no memory for a baseline: {short}")


def is_lost(future: Future[Any]) -> bool:
    """Whether it ended without a result, or with one that is of no use any more: what asks next tries anew."""
    if not future.done():
        return False
    return future.exception() is not None or bool(getattr(future.result(), "lost", False))


def sitting_of(
    bench: Bench, reference: JudgedReference, tail: str, request: EvaluationRequest, begin: Callable[[Sitting], None]
) -> Sitting:
    """A sitting of the reference itself with *tail*, once *begin* has had it loaded and called."""
    code = reference.instance.check_source + "\n\nimport torch\n" + tail
    sitting = Sitting(bench, reference, code, max(request.timeout_s, _LIMIT_S))
    sitting.trusted = True
    try:
        sitting.start(request.precision, Laps())
        begin(sitting)
    except BaseException:
        sitting.close()
        raise
    return sitting
