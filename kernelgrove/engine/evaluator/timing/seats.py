"""A sitting that is timed under seal: chunks of its calls, each after an empty one, and calls that go through alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import TracebackType

import torch

from ..sittings.sitting import Sitting
from ..wire.arena import CudaArena
from ..wire.driver import CudaError
from ..wire.protocol import ProtocolBreak
from ..workers.handle import WorkerFailed
from .empties import Empties
from .figures import (
    EMPTY_ALONE_MS,
    EMPTY_MS,
    RESOLUTION_MS,
    SERIAL_HOST_MS,
    SERIAL_MS,
    Chunk,
    alone_ms,
    calls_a_chunk,
    serial_delta,
)
from .memory import l2_bytes, trim
from .pending import Pending
from .room import CHUNK_BYTES, SAID_BYTES, room_of, said_bytes
from .rounds import Round
from .sealing import Ground, Sealed, Stuck
from .slots import Filled, Layout

#: Work in one chunk, ms, as far as memory and queue allow.
AIM_MS = 30.0
_SINGLY = (8, 16, 24)  # calls that go through one by one: as many as do, at most the last
_SINGLY_MS, _SINGLY_LEAST = 100.0, 5  # of work of such calls at once, but no fewer than so many
_PENDING = 40  # calls of a candidate at most that wait to be compared
_SINGLY_COPIES = 6  # of their inputs and outputs that the judge has meanwhile
_CHECKED = 2  # calls of each chunk that are compared with the reference
_HELD = 256 << 20  # of inputs of a baseline's chunk between two candidates
_LEAST_WORK_MS = 0.5  # in a chunk: with less, what a change of context takes is all that there is to see
_OVERESTIMATED = 4  # times what calls take: their number is chosen anew
_TRIES = 2  # at queueing a chunk, with ever fewer calls; and at finding a processor that is fast and stays so
_UNQUEUED = 256  # calls of a chunk that is launched without a stalled stream
_QUEUE = 800  # launches that a stalled stream takes without blocking the host: 400 did not, 1600 did


NO_MEMORY = "it leaves no memory for a second set of inputs and outputs beside what it holds"


class NoRoom(Exception):
    """There is no memory for a second set of inputs and outputs."""


class Overestimated(Exception):
    """A call takes ``call_ms``, far less than was estimated: that is why there are so few of them in a chunk."""

    def __init__(self, call_ms: float) -> None:
        super().__init__(f"{call_ms:.4g} ms")
        self.call_ms = call_ms


#: Its worker has not failed where a seat is left with one of these.
_LIVES_ON = (CudaError, torch.OutOfMemoryError, Overestimated)


class Seat:
    """A sitting with a ground for sealed chunks of ``calls`` calls each. Close it after use."""

    def __init__(
        self,
        sitting: Sitting,
        empties: Empties,
        pending: Pending,
        estimate_ms: float,
        memory: int,
        timeout_s: float,
        besides: int = 0,
        arena: CudaArena | None = None,
        call_ms: float | None = None,
    ) -> None:
        """*pending*: where comparisons of timed calls wait until nobody is timed. *estimate_ms*: what a call takes with
        its host, about; *call_ms*: without it, where that is known. *memory*: bytes of the device that are for this
        seat; so many *besides* are left where that leaves room for more than one call. *arena*: one to use, which
        others use in turn. Raises NoRoom."""
        assert sitting.worker is not None
        self.sitting = sitting
        self.case = sitting.current(0)
        self.stall = True
        self.lost = False  # whether its worker has failed
        self.slow = False  # whether the last empty chunk took longer than is believed
        self.least_ms = math.inf  # that a call of a baseline ever took, in the middle of a chunk
        self._ahead = False  # whether, without a stalled stream, launching lies beside the GPU's work
        self._empties, self._estimate_ms, self._timeout_s = empties, estimate_ms, timeout_s
        self.device = torch.device(sitting.bench.device).index or 0
        self._stuck = 0
        self._kept: Round | None = None  # the reference itself may see the same inputs again
        self._entered: list[Sealed] = []
        self._hasty = 0  # how often calls that should be queued were not in time
        self._idle: Sealed | None = None
        self._unchanged: Filled | None = None
        self.pending = pending
        self._core: int | None = None  # where the host works if the clock sees it
        self._empty: tuple[int, bool, float] | None = None  # calls, stall, ms of the last empty chunk
        layout = Layout.of(self.case)
        if arena is not None:
            room = arena.size
        else:
            besides += min(pending.left, _PENDING * layout.stride)
            room = room_of(memory, besides, layout, 2 if sitting.trusted else 3)
            if not sitting.trusted:  # the empty worker's ground may have some of it already
                room = room_of(memory + min(empties.kept, max(room, 0)), besides, layout, 3)
        if layout.size(2) > room:
            raise NoRoom
        # Before every second call is a launch more (inside/parity.py); around one that goes through alone are four.
        launches = sitting.launches + 2 + len(self.case.expected)
        queue, alone = (max(1, 2 * _QUEUE // (2 * each + 1)) for each in (launches, launches + 4))
        call_ms, self._queue = call_ms or estimate_ms, queue
        words = sum(map(said_bytes, self.case.expected))
        self._bounds = (AIM_MS, layout.stride, room, min(max(queue, _UNQUEUED), SAID_BYTES // max(words, 1)))
        self._room = calls_a_chunk(call_ms, *self._bounds)
        while True:
            try:
                self._ground = Ground(self.case, self._room, self.device, arena)
                try:
                    self._bare = None if sitting.trusted else empties.ground(self.case, self._room, self.device)
                    break
                except BaseException:
                    self._ground.close()
                    raise
            except (CudaError, torch.OutOfMemoryError) as error:
                sitting.reference.forget()
                torch.cuda.empty_cache()
                if self._room == 1:
                    raise NoRoom from error
                self._room //= 2
                self._bounds = (AIM_MS, layout.stride, layout.size(self._room + 1), self._bounds[-1])
        self.calls = self._queued = min(self._room, queue)
        most = calls_a_chunk(call_ms, AIM_MS, layout.stride, CHUNK_BYTES, self._bounds[-1])
        self.short = min(most, queue) > 2 * self.calls  # whether, for want of memory, there are far fewer than could be
        self._few = max(_SINGLY_LEAST, min(_SINGLY[0], int(_SINGLY_MS / max(call_ms, 1e-4))))
        spare = memory - 2 * layout.size(self._room)
        self._alone = min(self._room, alone, self._few, max(1, spare // (_SINGLY_COPIES * max(layout.stride, 1))))
        self._how_it_lies = json.dumps(layout.to_json())
        self._cold_too = False  # whether inputs of some calls alone stay cold
        self._singles = 0  # calls that went through alone
        try:
            self._sealed = Sealed(sitting.worker, self._ground, timeout_s, estimate_ms)
            self._entered.append(self._sealed)
            self._ground.slots.prime(sitting.reference.fresh_inputs(), self._room)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Seat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None or issubclass(kind, _LIVES_ON):
                self._ground.release()
                self._sealed.leave()  # what a worker has mapped is not free
        except ProtocolBreak as broken:
            if kind is None:
                raise
            # The judge's memory ran out in the middle of a question: the answer to that came in place of this one's.
            raise WorkerFailed("out_of_memory", "time", NO_MEMORY) from broken
        finally:
            self.close()

    def close(self) -> None:
        self._kept = self._unchanged = None
        try:
            for sealed in self._entered:
                sealed.turnstile.release()
            if self._bare is not None:
                self._bare.release()
                self._empties.leave(self._idle)
        finally:
            self._ground.close()
            trim(self.device)

    def chunk(self, allclose: float | None, checked: int = _CHECKED) -> Chunk:
        """One chunk, right after an empty one; of fewer calls where they cannot all be queued; without a stalled stream
        where few cannot either: such a forward waits for the GPU, and is timed with its host. One whose processor is
        slow after it is run once more: the empty worker's was fast."""
        runs = 0
        while True:
            empty_ms = self._empty_ms()
            if not self.sitting.trusted:
                self._kept = None  # its memory first
            if self._kept is None:
                of = (self._sealed, self.sitting, self.calls, checked, allclose, self.pending)
                self._kept = Round(*of, rehearsed=not self.stall)
            try:
                chunk = self._kept.together(self.stall, empty_ms, self._core)
                runs += 1
                if runs < _TRIES and self._was_slowed():
                    continue
                return chunk if self.stall else replace(chunk, least_ms=self._least_ms(empty_ms))
            except Stuck:
                self._stuck += 1
                self.calls //= 8
                self._kept = None
                if self._stuck == _TRIES or self.calls * self._estimate_ms < _LEAST_WORK_MS:
                    self.release()

    def _was_slowed(self) -> bool:
        if self._core is None or self.sitting.trusted:
            return False
        with self._empties.still():
            return not self._empties.is_fast(self._core)

    def _least_ms(self, empty_ms: float) -> float:
        """Of a call that is launched without a stalled stream: one launch for many of them hides in a larger chunk no
        better than in one that could be queued, nor behind what the host takes for as many that compute nothing."""
        return max(RESOLUTION_MS / self._queued, 0.0 if self._ahead else empty_ms / self.calls)

    def release(self, ahead: bool = False) -> None:
        """Stall no stream from now on: calls are launched when their inputs are there, as many as there is room for.
        *ahead*: they could be queued, so that launching them lies beside the GPU's work. What the empty worker would
        take for launching as many is then none of a chunk's, and it is stalled as before."""
        self.stall, self.calls, self._ahead = False, self._queued if ahead else self._room, ahead
        self._kept, self.least_ms = None, math.inf

    def is_too_small(self, claim_ms: float) -> bool:
        """Whether, had a call been estimated at *claim_ms*, there would be several times as many in a chunk. Who is
        slow until chunks are made must not have so few that all their inputs are in the L2."""
        queue = self._queue if self.stall or self._ahead else self._bounds[-1]
        return min(calls_a_chunk(claim_ms, *self._bounds), queue) >= _OVERESTIMATED * min(self._room, queue)

    @property
    def to_come(self) -> int:
        """Bytes of inputs that its next chunk holds and that nobody holds now."""
        slots = self._ground.slots.layout.inputs
        return 0 if self._kept is not None else self.calls * sum(slot.storage_bytes for slot in slots)

    def rest(self) -> None:
        """Hold no gigabytes until the next chunk."""
        if self._kept is not None and self._kept.bytes > _HELD:
            self._kept = None

    def measure_empty(self) -> None:
        """Run an empty chunk for the next one. The candidate must be standing still. A baseline's claims are enough."""
        if self.sitting.trusted:
            return
        for _ in range(_TRIES):
            self._place()
            self._empty = (self.calls, self.stall, self._empty_chunk(self.calls))
            if self._core is None or not self.slow:  # else its processor has just become slow
                break

    def _place(self) -> None:
        """Choose where the host works: there where the empty worker's does."""
        self._core = None if self.stall or self._ahead else self._empties.core()

    def _empty_ms(self) -> float:
        """Of the empty chunk that was run for this one, or is run now."""
        if self.sitting.trusted:
            self._place()
            return 0.0
        if self._empty is None or self._empty[:2] != (self.calls, self.stall):
            with self._empties.still():
                self.measure_empty()
        assert self._empty is not None
        (_, _, found), self._empty = self._empty, None
        return found

    def _empty_chunk(self, calls: int) -> float:
        stall = self.stall or self._ahead
        key, nothing = (self._how_it_lies, calls, stall, False), self._nothing()
        found = min(self._empties.chunk(*nothing, calls, stall, self._core) for _ in range(self._empties.looks(key)))
        believed = self._empties.believed(found, key, EMPTY_MS)
        self.slow = found > believed
        return believed

    def _nothing(self) -> tuple[Sealed, Filled]:
        """The empty worker on a ground of its own, and what it is given: as much as a candidate is, to places that lie
        alike."""
        assert self._bare is not None
        if self._unchanged is None:
            self._unchanged = self._ground.slots.unchanged(self.case.packed, self._room)
        if self._idle is None:
            self._idle = self._empties.enter(self._bare, self._timeout_s)
            self._entered.append(self._idle)
            self._empties.chunk(self._idle, self._unchanged, self.calls, self.stall)  # warms up
        return self._idle, self._unchanged

    def serial(self, allclose: float | None, claim_ms: float) -> list[Chunk]:
        """Calls that go through one by one, after as many of the empty worker: a few where they bear *claim_ms* out,
        else others follow at other moments."""
        found: list[Chunk] = []
        # A chunk that fits into the L2 is not cold: the judge has just completed its inputs. Of as many calls as the
        # claim makes where there is memory: whoever seemed slower, or left little, has one that fits all the same.
        aim_ms, stride, _, queue = self._bounds
        size = self._ground.slots.layout.size(calls_a_chunk(claim_ms, aim_ms, stride, CHUNK_BYTES, queue))
        self._cold_too = size > l2_bytes(self.device)
        for wanted in (self._few, *_SINGLY[1:]):
            while len(found) < wanted:
                found += self._alone_once(allclose)
            if alone_ms(found) <= claim_ms + serial_delta(claim_ms, found):
                break
        return found

    def _alone_once(self, allclose: float | None) -> list[Chunk]:
        """As many as are made ready at once; none where they turn out to wait for their stream now and then."""
        queued = self.stall or self._ahead
        cold = [self._cold_too and number % 4 > 1 for number in range(self._singles, self._singles + self._alone)]
        self._singles += self._alone
        most_ms = EMPTY_ALONE_MS if queued else EMPTY_MS
        keys = {kind: (self._how_it_lies, 0, queued, kind) for kind in set(cold)}
        with self._empties.still():
            self._place()
            looks = range(max(map(self._empties.looks, keys.values())))
            empty = [self._empties.alone(*self._nothing(), cold, not queued, self._core) for _ in looks]
        empty_ms = {
            kind: self._empties.believed(min(each[kind] for each in empty), key, most_ms) for kind, key in keys.items()
        }
        self._kept = None  # its memory first
        # All are compared with the reference: else it would pay to leave out those that decide.
        calls = Round(self._sealed, self.sitting, self._alone, self._alone, allclose, self.pending, singly=True)
        found = calls.singly(cold, queued, empty_ms, self._core)
        if queued and self._sealed.turnstile.waited:
            self._hasty += 1
            if self._hasty == _TRIES:  # not the host that was slow once
                self.release()
            return []
        slack_ms = SERIAL_MS if queued else SERIAL_HOST_MS
        return [replace(chunk, slack_ms=slack_ms) for chunk in found]
