"""Calls that go through one by one, the judge's side: none can begin before the last one's outputs are known.

The worker queues all calls of a chunk, on inputs that are masked. For each of them the judge

1. starts its clock, writes the call's key and *go* into a page of the host's memory that the worker's stream waits for;
2. sees the stream say *done*, stops its clock, and keeps the digest of all outputs that lies in the page by then.

What takes a mask off leaves all inputs in L2, where a chunk's are not. So of some calls, the *cold* ones, few blocks
are masked, and the L2 is emptied before the first call. What can be computed before the key is there, and mended, is no
work of a cold call; what the L2 gives away is none of another.

Afterwards it computes the digests again: the outputs have to be those that they were when they were called done. So one
launch cannot serve two calls: of the second there is no input before there is an output of the first. As neither side
sends a message and no context of the GPU changes, such a call is told to microseconds.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from ctypes import c_int32, c_int64, c_uint64
from dataclasses import dataclass
from typing import Any

import torch

from ..inside.pace import leaving
from ..sittings.sitting import Rejected
from ..wire.arena import Arena
from ..wire.kernels import Image, Kernel
from ..wire.page import CALLS, Page
from ..wire.protocol import Reply
from ..wire.structure import fingerprint
from ..workers.handle import Worker, WorkerTimeout
from .masking import BLOCK, images, parts, sparsely
from .memory import l2_bytes
from .slots import Filled, Slots

_MASK_32 = 0xFFFFFFFF
CHANGED = "outputs changed after forward had handed them over: work was still going on"
#: In which no other thread of the judge takes the interpreter from who looks at the clock; and as Python has it.
_UNDISTURBED_S, _DISTURBED_S = 0.3, sys.getswitchinterval()
_SETTLED_S = 0.003  # in which who was to get it before has got it, or waits as long
_SPIN_S, _PATIENCE, _MOST_S = 0.02, 5, 0.1  # so long, and so many times what a call takes, it looks without a pause
_PAUSE_S = 0.001  # between two looks at what takes longer
_EVICTING = 2  # times its size is written to empty the L2
_ARRIVAL_S = 0.0003  # in which the host of a forward that waits for its stream comes to where it waits


@dataclass(frozen=True)
class Passed:
    """Calls that went through: what the worker says of them, the judge's clock from *go* to *done* of each in ms, the
    digests of its outputs at that moment, fingerprints of those that are no tensors, and the judge's own copy of all
    outputs: (calls, bytes)."""

    reply: dict[str, Any]
    walls_ms: list[float]
    digests: list[bytes]
    said: list[bytes]
    keys: torch.Tensor
    outputs: torch.Tensor


@dataclass(frozen=True)
class Kernels:
    """``mask`` and ``digest`` in the judge's own context, and as a worker gets them; and how many bytes are written to
    empty the L2."""

    mask: Kernel
    digest: Kernel
    images: tuple[Image, Image]
    evicting: int


_MADE: dict[int, Kernels] = {}
_MAKING = threading.Lock()


def kernels(device: int) -> Kernels:
    """Compiled at the first call, which takes a second."""
    with _MAKING:
        if device not in _MADE:
            both = images(torch.cuda.get_device_capability(device))
            torch.zeros(1, device=f"cuda:{device}")  # a context that is current in this thread
            _MADE[device] = Kernels(Kernel(both[0]), Kernel(both[1]), both, _EVICTING * l2_bytes(device))
        return _MADE[device]


class Turnstile:
    """What lies between the judge and *worker* with its calls in *slots*. *estimate_ms*: what a call takes, about."""

    def __init__(
        self, worker: Worker, slots: Slots, of_judge: Kernels, page: Page, timeout_s: float, estimate_ms: float
    ) -> None:
        self.worker, self.slots, self._kernels, self._page = worker, slots, of_judge, page
        self._timeout_s = timeout_s
        self._spin_s = min(_SPIN_S + _PATIENCE * 1e-3 * estimate_ms, _MOST_S)
        self._token = 2  # of the next call; a page begins with 0, and 1 says that the first call is about to be queued
        self._queued = False  # whether all calls are: the worker said so
        self.waited = False  # whether they were not in time, the last time
        layout = slots.layout
        start, size = layout.masked
        blocks = -(-size // (4 * BLOCK))
        self._masked: dict[str, Any] = {"start": start, "quarter": size // 16, "blocks": blocks, "every": []}
        start, size = layout.digested
        blocks, steps = parts(size // 4)
        self._digested = {"start": start, "words": size // 4, "blocks": blocks, "steps": steps}
        self._until_s = 0.0  # by the monotonic clock: when the calls that go through now have to be done

    def run(
        self,
        filled: Filled,
        cold: Sequence[bool],
        patience_s: float,
        options: dict[str, Any],
        core: int | None = None,
    ) -> Passed:
        """Have the worker run the first calls of *filled*, which need not be in their places: as many as *cold* says
        whether their inputs are to stay cold. Whatever is not queued after *patience_s* waits for its stream meanwhile.
        *core*: the processor on which its host works, where the clock sees it (None: any).

        Raises what a worker's end raises. ``verify`` is next.
        """
        calls = len(cold)
        assert calls <= CALLS
        self._masked["every"] = [sparsely(self._masked["blocks"]) if each else 1 for each in cold]
        keys = [secrets.randbits(64) for _ in range(calls)]
        on_device = torch.tensor([_signed(key) for key in keys], device=self.slots.arena.bytes.device)
        outputs = self.slots.copy_outputs(0, calls)  # what there is no memory for is found out before anybody is asked
        self._place(filled, on_device)
        torch.cuda.synchronize()
        packed = filled.packed[:calls]
        singly = {"token": self._token, "masked": self._masked, "digested": self._digested}
        plan = {
            **self.slots.layout.to_json(),
            "packed": [len(blob) for blob in packed],
            "stall": False,
            "singly": singly,
            "core": core,
            **options,
        }
        self.worker.send("queue", {}, [json.dumps(plan).encode(), b"".join(packed)])
        self._queued = False
        try:
            self.waited = not self._is_queued(patience_s)
            with leaving(core):
                passed = self._let_all(keys)
            self.slots.copy_outputs(0, calls, into=outputs)  # before anybody can look for others with these digests
            torch.cuda.synchronize()
            if not self._queued:
                self._is_queued(self._timeout_s, keep=False)
            self.worker.answer(Reply.FINISHED, self._timeout_s)
            reply = self.worker.ask("claims", Reply.CLAIMED, self._timeout_s, {})
        except BaseException:
            self.release()
            raise
        self._token = (self._token + calls + 1) & _MASK_32
        walls, digests, said = zip(*passed, strict=True)
        return Passed(reply, list(walls), list(digests), list(said), on_device, outputs)

    def release(self) -> None:
        """Let go whatever waits: a stream that is left waiting would hold its worker's last moments up."""
        self._page.let(0, self._token + CALLS, 0)
        self._token = (self._token + CALLS + 2) & _MASK_32

    def _is_queued(self, patience_s: float, keep: bool = True) -> bool:
        """Whether all calls are within *patience_s*. Then the worker is told to wait for its stream: where that fails,
        it says so at once."""
        try:
            self.worker.answer(Reply.QUEUED, patience_s, keep)
        except WorkerTimeout:
            if keep:
                return False
            raise
        self.worker.send("finish", {})
        self._queued = True
        return True

    def _let_all(self, keys: list[int]) -> list[tuple[float, bytes, bytes]]:
        began = time.perf_counter()
        self._until_s = began + min(self._timeout_s, self.worker.left_s)
        try:
            if self.waited:
                self._until(self._token - 1)
            with _undisturbed() as paused_s:
                began += paused_s  # another thread of the judge's may have had the interpreter
                self._until_s += paused_s
                passed = []
                for number, key in enumerate(keys):
                    if self.waited:
                        time.sleep(_ARRIVAL_S)
                    passed.append(self._let(number, key))
                return passed
        finally:
            self.worker.left_s -= time.perf_counter() - began

    def _let(self, number: int, key: int) -> tuple[float, bytes, bytes]:
        """Let call *number* go, and see it done: what it took in ms, the digests of its outputs and the fingerprint of
        those that are no tensors."""
        page, token, count = self._page, (self._token + number) & _MASK_32, self._digested["blocks"]
        now = started = time.perf_counter()
        page.let(number, token, key)
        latest = started + self._spin_s
        while not (done := page.is_done(token)) and now < latest:
            now = time.perf_counter()
        if not done:
            with _undisturbed(False):
                self._until(token)
        digests, said = page.digests(count), page.said(number)  # whoever says done too early has them too late
        return (time.perf_counter() - started) * 1e3, digests, said

    def _until(self, token: int) -> None:
        """Wait until that is done which takes long, or has failed: the worker says so later. Raises what its end
        raises."""
        while not self._page.is_done(token):
            if not self.worker.waiting:  # it has something to say, or is gone
                if self._queued:
                    break
                self._is_queued(self._timeout_s, keep=False)
            if time.perf_counter() > self._until_s:
                self.release()
                self.worker.stop()
                raise WorkerTimeout(f"no answer within {round(self._timeout_s, 1):g} s")
            time.sleep(_PAUSE_S)

    def verify(self, passed: Passed) -> None:
        """The outputs are those that were there when they were called done. Raises Rejected."""
        if self.slots.layout.talks and [fingerprint(said) for said in passed.reply["said"]] != passed.said:
            raise Rejected(CHANGED)
        blocks, calls = self._digested["blocks"], len(passed.digests)
        if not blocks:
            return
        found = torch.zeros(calls, blocks, dtype=torch.int64, device=passed.keys.device)
        for number in range(calls):
            words, into = c_uint64(passed.outputs[number].data_ptr()), c_uint64(found[number].data_ptr())
            key = c_uint64(passed.keys[number:].data_ptr())
            count, steps = c_int64(self._digested["words"]), c_int32(self._digested["steps"])
            self._kernels.digest.launch(blocks, _stream(), words, key, into, count, steps)
        for ours, digests in zip(found.cpu().numpy(), passed.digests, strict=True):
            if ours.tobytes() != digests:
                raise Rejected(CHANGED)

    def _place(self, filled: Filled, keys: torch.Tensor) -> None:
        """Put inputs in their places, each call's masked with its key before anybody else can see it."""
        slots, (start, size) = self.slots, self.slots.layout.masked
        if not size:
            return
        room = torch.zeros(start + size, dtype=torch.uint8, device=keys.device)  # gaps become anybody's to read
        stage = Slots(Arena(room, -1, room.numel()), slots.layout)
        words = c_uint64(room.data_ptr() + start)
        for number in range(len(keys)):
            for slot, right in zip(slots.layout.inputs, filled.right, strict=True):
                stage.flat(slot, 1)[0].copy_(right[number])
            key, every = c_uint64(keys[number:].data_ptr()), self._masked["every"][number]
            blocks, quarter = -(-self._masked["blocks"] // every), c_int32(self._masked["quarter"])
            self._kernels.mask.launch(blocks, _stream(), words, key, quarter, c_int32(every))
            at = start + number * slots.layout.stride
            slots.arena.bytes[at : at + size].copy_(room[start:])
        torch.zeros(self._kernels.evicting, dtype=torch.uint8, device=keys.device)


@contextlib.contextmanager
def _undisturbed(undisturbed: bool = True) -> Iterator[float]:
    """No other thread takes the interpreter from this one inside; or, inside that, again as ever. Gives what it took to
    come so far, seconds."""
    started, interval = time.perf_counter(), sys.getswitchinterval()
    sys.setswitchinterval(_UNDISTURBED_S if undisturbed else _DISTURBED_S)
    try:
        if undisturbed:
            time.sleep(_SETTLED_S)
        yield time.perf_counter() - started
    finally:
        sys.setswitchinterval(interval)


def _stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)


def _signed(key: int) -> int:
    """The same 64 bits."""
    return key - (1 << 64) if key >> 63 else key
