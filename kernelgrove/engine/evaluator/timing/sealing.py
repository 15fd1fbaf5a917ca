"""Sealed timing, the judge's side: chunks of calls that cannot be done before the clock runs, nor after it stops.

A chunk of N calls, each with inputs and outputs of its own:

1. the judge draws N inputs nobody has seen and keeps them; in their places lie an earlier chunk's. It fills the outputs
   with NaN;
2. the worker queues N calls behind a stalled stream: what it computes ahead of the stream, it computes on wrong inputs;
3. the judge starts its clock, copies the right inputs in and releases the stream, on the GPU, in that order;
4. the worker says when its stream is through, with a fingerprint of all that is no tensor; the judge takes a secret
   sample of all outputs and stops its clock;
5. the outputs must still hold that sample, what is no tensor must have that fingerprint, and some of the calls, drawn
   in secret, are compared with the reference.

What an *empty* worker (trusted; its outputs are ready before it is asked) took for the same chunk just before is
subtracted.
Calls that go through one by one (``turnstile.py``) tell one launch that serves many calls from many.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..checking.judged_reference import Case
from ..wire.arena import CudaArena
from ..wire.page import Page
from ..wire.protocol import Reply
from ..workers.handle import Worker, WorkerTimeout
from .slots import Filled, Layout, Slots
from .turnstile import Turnstile, kernels

#: In which the end of a chunk is looked for without a pause. A judge that slept saw it some 50 µs later after 3 ms of a
#: candidate's than after the empty worker's 0.5 ms, which was charged (docs/benchmarks/evaluator-h200.md).
_SPIN_S = 0.1
_FLAG = 0  # where in the arena the word lies that releases the stream
_TOKENS = itertools.count(1)  # one after the other in whatever arena: what released a stream releases none again


class Stuck(Exception):
    """The calls could not all be queued: forward waits for its stream, or launches more than a queue takes."""


@dataclass(frozen=True)
class Timed:
    """What came back of one chunk; *said*: a fingerprint of what the reply says is no tensor, from while the clock ran,
    in hexadecimal."""

    reply: dict[str, Any]
    wall_ms: float
    sample: list[torch.Tensor]
    said: str


class Ground:
    """An arena for chunks of up to *calls* calls. Several workers may be sealed in it, which take turns. Close it after
    use. *arena*: one to use that others use too, in turns; it stays open. Raises CudaError."""

    def __init__(self, case: Case, calls: int, device: int, arena: CudaArena | None = None) -> None:
        layout = Layout.of(case)
        self._own = arena is None
        self.device = device
        self.arena = arena or CudaArena.create(layout.size(calls), device)
        self.slots = Slots(self.arena, layout)
        self.token = 0  # what releases the stream that is stalled now; a stream waits for at least so much
        self._flag = self.arena.bytes[_FLAG : _FLAG + 4].view(torch.int32)

    def release(self) -> None:
        self._flag.fill_(self.token)

    def stall(self) -> int:
        """What will release the stream that is stalled next."""
        self.token = next(_TOKENS)
        return self.token

    def close(self) -> None:
        self.release()  # a stream left stalled would hold its worker's last moments up
        if self._own:
            self.arena.close()


class Sealed:
    """*worker* in *ground*. *estimate_ms*: what a call of its takes, about."""

    def __init__(self, worker: Worker, ground: Ground, timeout_s: float, estimate_ms: float = 0.0) -> None:
        self.worker, self.ground, self.timeout_s = worker, ground, timeout_s
        self._launch_s = 0.0005 + 2e-3 * estimate_ms  # a call: Python needs some 50 µs, a slow host ten times that
        of_judge, page = kernels(ground.device), Page.create()
        self.turnstile = Turnstile(worker, ground.slots, of_judge, page, timeout_s, estimate_ms)
        torch.cuda.synchronize()
        fields = {"arena_bytes": ground.arena.size, "kernels": [image.to_json() for image in of_judge.images]}
        codes = [image.code for image in of_judge.images]
        try:
            worker.ask("seal", Reply.SEALED, timeout_s, fields, [ground.arena.fd, page.fd, *codes])
        finally:
            page.close()  # it stays mapped

    def leave(self) -> None:
        """Have the worker let go of the ground's memory."""
        self.worker.ask("unseal", Reply.SEALED, self.timeout_s, {})

    def patience_s(self, calls: int) -> float:
        """In which so many calls are queued, if they can be."""
        return 0.25 + self._launch_s * calls

    def run(self, filled: Filled, calls: int, stall: bool, options: dict[str, Any], core: int | None = None) -> Timed:
        """Have the worker run the first *calls* calls of *filled*, behind a stalled stream where *stall*; else on
        processor *core* (None: on any).

        Raises Stuck (after releasing the stream) where they could not all be queued, and what a worker's end raises.
        """
        packed = filled.packed[:calls]
        ground = self.ground
        plan = {
            **ground.slots.layout.to_json(),
            "packed": [len(blob) for blob in packed],
            "flag": _FLAG,
            "token": ground.stall(),
            "stall": stall,
            "singly": None,
            "core": core,
            **options,
        }
        ground.slots.aim()  # what there is no memory for is found out before anybody is asked
        self.worker.send("queue", {}, [json.dumps(plan).encode(), b"".join(packed)])
        self._await_queued(calls, stall)
        if stall:
            self.worker.send("finish", {})  # it now waits for its stream
        torch.cuda.synchronize()
        started = time.perf_counter()
        ground.slots.complete(filled, calls)
        if stall:
            ground.release()
        else:
            torch.cuda.synchronize()
            self.worker.send("finish", {})
        if core is None:  # else a host is at work there, which is the slower the more processors are busy
            self.worker.watch(_SPIN_S)
        said = self.worker.answer(Reply.FINISHED, self.timeout_s)["said"]
        sample = ground.slots.sample(calls)
        torch.cuda.synchronize()
        wall_ms = (time.perf_counter() - started) * 1e3
        reply = self.worker.ask("claims", Reply.CLAIMED, self.timeout_s, {})
        return Timed(reply, wall_ms, sample, said)

    def _await_queued(self, calls: int, stall: bool) -> None:
        if not stall:
            self.worker.answer(Reply.QUEUED, self.timeout_s)
            return
        try:
            self.worker.answer(Reply.QUEUED, self.patience_s(calls), keep=True)
        except WorkerTimeout as late:
            self.ground.release()
            self.worker.answer(Reply.QUEUED, self.timeout_s)
            self.worker.ask("finish", Reply.FINISHED, self.timeout_s, {})
            raise Stuck from late


def empty_chunk(sealed: Sealed, filled: Filled, calls: int, stall: bool, core: int | None) -> float:
    """The wall clock over a chunk of the empty worker, in ms, with as much to complete and to sample. *filled*:
    ``Slots.unchanged`` of so many calls or more. *core*: as in ``Sealed.run``."""
    options = {"empty": True, "waits": False, "restore": False}
    return sealed.run(filled, calls, stall, options, core).wall_ms


def empty_calls(
    sealed: Sealed, filled: Filled, cold: Sequence[bool], waits: bool, core: int | None
) -> dict[bool, float]:
    """The judge's clock over a call of the empty worker that goes through alone, in ms, by whether it is a cold one:
    the median of those. *waits*: it waits for its stream in each of them, as a candidate does. *core*: as in
    ``Turnstile.run``."""
    options = {"empty": True, "waits": waits, "restore": False}
    patience_s = 0.0 if waits else sealed.patience_s(len(cold))
    both = list(zip(cold, sealed.turnstile.run(filled, cold, patience_s, options, core).walls_ms, strict=True))
    return {kind: statistics.median(wall for each, wall in both if each is kind) for kind in set(cold)}
