"""Confirmation: a candidate's sealed chunks and its baseline's in turn, until the ratio between them is known.

Both sit in workers of their own; the GPU is theirs alone meanwhile. What the clock finds is one figure with its
interval, and baseline ÷ candidate from neighbouring chunks, which drift of clocks and temperature hardly touches.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

import torch

from .arena import CudaError
from .references import Case
from .sealing import Round, Sealed, Stuck, empty_chunk
from .sitting import Sitting
from .slots import Layout
from .timing import Chunk, Figure, Ratio, calls_a_chunk, ratio, sealed
from .workers import Worker, WorkerDied, WorkerFailed, WorkerTimeout

#: Work in one chunk, ms, as far as memory and queue allow; chunks go on until so much was timed in all.
AIM_MS = 30.0
#: Chunks of each side: at least, at most.
_LEAST, _MOST = 4, 6
#: Half the width of the ratio's 95 % interval at which timing ends early.
_NARROW = 0.01
_SERIAL = 8  # chunks of one call
_DRIFT_MS = 0.2
_CHECKED = 2  # calls of each chunk that are compared with the reference
_MEMORY = 12 << 30  # of a chunk at most: filling more costs more than it tells
_QUEUE = 800  # launches that a stalled stream takes without blocking the host: 400 did not, 1600 did


#: Stops every candidate and sees to it that the GPU is idle.
Still = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Empty:
    """The wall clock over an empty chunk, and over an empty one of a single call at the same time, in ms."""

    chunk_ms: float
    single_ms: float


class NoRoom(Exception):
    """There is no memory for a second set of inputs and outputs."""


@dataclass
class Empties:
    """What a worker that computes nothing takes for a chunk, by its layout and number of calls. Thread-safe."""

    fork: Callable[[], Worker]
    device: int
    still: Still
    _worker: Worker | None = None
    _known: dict[tuple[str, int, bool], Empty] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def open(self, case: Case, calls: int, timeout_s: float) -> Iterator[Sealed]:
        """An arena of the empty worker. One at a time."""
        with self._lock:
            if self._worker is None:
                self._worker = self.fork()
            try:
                with Sealed(self._worker, case, calls, self.device, timeout_s) as arena:
                    yield arena
            except (WorkerDied, WorkerTimeout, WorkerFailed):
                self.close()
                raise

    def get(self, case: Case, calls: int, stall: bool, timeout_s: float) -> Empty:
        """Medians of three, after one that warms up."""
        layout = Layout.of(case)
        key = (repr((layout.inputs, layout.outputs)), calls, stall)
        if key not in self._known:
            with self.still(), self.open(case, calls, timeout_s) as arena:
                chunks = [empty_chunk(arena, case.packed, calls, stall) for _ in range(4)]
                single = [empty_chunk(arena, case.packed, 1, stall) for _ in range(4)]
            self._known[key] = Empty(statistics.median(chunks[1:]), statistics.median(single[1:]))
        return self._known[key]

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


class Seat:
    """A sitting with an arena for sealed chunks of ``calls`` calls each. Close it after use."""

    def __init__(self, sitting: Sitting, empties: Empties, estimate_ms: float, memory: int, timeout_s: float) -> None:
        assert sitting.worker is not None
        self.sitting = sitting
        self.case = sitting.current(0)
        self.timeout_s = timeout_s
        self._empties = empties
        layout = Layout.of(self.case)
        room = min(_MEMORY, memory)
        if layout.size(2) > room:
            raise NoRoom
        queue = max(1, _QUEUE // (sitting.launches + 2 + len(self.case.expected)))
        self.calls = calls_a_chunk(estimate_ms, AIM_MS, layout.stride, room, queue)
        self.stall = True
        self._stuck = 0
        self._kept: Round | None = None  # the reference itself may see the same inputs again
        self._single_ms: float | None = None
        while True:
            try:
                empties.get(self.case, self.calls, True, timeout_s)  # before this seat's own memory is taken
                self._sealed = Sealed(sitting.worker, self.case, self.calls, empties.device, timeout_s)
                break
            except (CudaError, torch.OutOfMemoryError) as error:
                sitting.reference.forget()
                torch.cuda.empty_cache()
                if self.calls == 1:
                    raise NoRoom from error
                self.calls //= 2
        self._sealed.slots.prime(sitting.reference.fresh_inputs(), self.calls)

    def __enter__(self) -> Seat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._sealed.close()

    def chunk(self, allclose: float | None, checked: int = _CHECKED) -> Chunk:
        """One chunk; of fewer calls where they cannot all be queued; without a stalled stream where a quarter of a
        quarter cannot: such a forward waits for the GPU, and is timed with its host."""
        while True:
            empty = self._empties.get(self.case, self.calls, self.stall, self.timeout_s)
            if not self.sitting.trusted or self._kept is None:
                self._kept = Round(self._sealed, self.sitting, self.calls, checked, allclose)
            calls = self._kept
            try:
                return calls.together(self.stall, empty.chunk_ms + self._drift(empty))
            except Stuck:
                self._stuck += 1
                if self.calls == 1 or self._stuck > 2:
                    self.stall = False
                self.calls = max(1, self.calls // 4)
                self._kept = None

    def serial(self, allclose: float | None) -> list[Chunk]:
        """Some chunks of one call, beside as many of the empty worker: what a change of context takes depends on who
        else is there. Chunks of many calls are corrected by what is seen of it here."""
        found: list[Chunk] = []
        with self._empties.open(self.case, 1, self.timeout_s) as idle:
            while len(found) < _SERIAL:
                count = min(self.calls, _SERIAL - len(found))
                calls = Round(self._sealed, self.sitting, count, _CHECKED, allclose)
                with self._empties.still():
                    empty = [empty_chunk(idle, self.case.packed, 1, True) for _ in range(count)]
                found += [calls.one(number, empty[number]) for number in range(count)]
        self._single_ms = statistics.median(chunk.empty_ms for chunk in found)
        return found

    def _drift(self, empty: Empty) -> float:
        """How much longer an empty chunk takes now than when it was calibrated, ms; not more than a change of context
        can differ by."""
        if self._single_ms is None:
            return 0.0
        return max(-_DRIFT_MS, min(_DRIFT_MS, self._single_ms - empty.single_ms))


def memory_share(parts: int) -> int:
    """Free bytes of the current device, divided among *parts*."""
    free: int = torch.cuda.mem_get_info()[0]
    return free // parts


@dataclass(frozen=True)
class Confirmed:
    """A sealed figure; baseline ÷ candidate and the baseline's median in ms, None where there was no baseline."""

    figure: Figure
    ratio: Ratio | None
    baseline_ms: float | None


def confirm(candidate: Seat, baseline: Seat | None, allclose: float | None, still: Still) -> Confirmed:
    """Time the candidate under seal, chunk by chunk in turn with the baseline, which runs while the candidate is
    *still*: what a speedup is over must not be slowed down by it.

    Raises what ``sealed_chunk`` raises for the candidate.
    """
    pairs: list[tuple[Chunk, Chunk]] = []
    own: list[Chunk] = [candidate.chunk(allclose, checked=0)]  # finds out how many calls can be queued, and warms up
    # Where the stream is not stalled, one call after the other already goes through the host.
    serial = candidate.serial(allclose) if candidate.stall else []
    own.clear()
    for _ in range(_MOST):
        before = None
        if baseline is not None:
            with still():
                before = baseline.chunk(None, checked=0)
        own.append(candidate.chunk(allclose))
        if before is not None:
            pairs.append((before, own[-1]))
        width = ratio(pairs).half_width if pairs else ratio([(chunk, own[0]) for chunk in own]).half_width
        if len(own) >= _LEAST and sum(sum(chunk.claims) for chunk in own) >= AIM_MS and width < _NARROW:
            break
    median = statistics.median([claim for chunk, _ in pairs for claim in chunk.claims]) if pairs else None
    return Confirmed(sealed(own, serial), ratio(pairs) if pairs else None, median)
