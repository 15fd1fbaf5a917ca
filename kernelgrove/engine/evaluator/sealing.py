"""Sealed timing, the judge's side: chunks of calls that cannot be done before the clock runs, nor after it stops.

A chunk of N calls, each with inputs and outputs of its own:

1. the judge draws N inputs nobody has seen, but leaves a secret share of their elements (one in ``STALE``) with the
   values of another draw; it fills the outputs with NaN;
2. the worker queues N calls behind a stalled stream: what it computes ahead of the stream, it computes on wrong inputs;
3. the judge starts its clock, completes the inputs and releases the stream, on the GPU, in that order;
4. the worker says when its stream is through; the judge takes a secret sample of all outputs and stops its clock;
5. the outputs must still hold that sample, and some of the calls, drawn in secret, are compared with the reference.

What an *empty* worker (trusted; its outputs are ready before it is asked) takes for the same chunk is subtracted.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import torch

from .arena import ALIGNMENT, CudaArena, Slot, Spec, lay_out, torch_dtype
from .correctness import Verdict, compare
from .protocol import ProtocolBreak, Reply, finite_floats
from .references import Case
from .sitting import POISON, Rejected, Sitting, Wrong
from .structure import flatten, pack
from .tensors import identical, is_tensor
from .timing import Chunk
from .workers import Worker, WorkerTimeout

#: One element in so many of each input is stale until the clock runs.
STALE = 1024
#: One element in so many of each output is looked at while the clock runs.
SAMPLE = 256
#: Inputs that take longer to draw than this, seconds, are varied by a secret factor instead of drawn anew.
_SLOW_DRAW_S = 0.03
_FLAG = 0  # where in the arena the word lies that releases the stream; the calls follow at ALIGNMENT


class Stuck(Exception):
    """The calls could not all be queued: forward waits for its stream, or launches more than a queue takes."""


@dataclass(frozen=True)
class Layout:
    """Where the inputs and outputs of the first call lie; call *j*'s lie *j* × *stride* bytes further on."""

    inputs: list[Slot]
    outputs: list[tuple[str, Slot | None]]
    stride: int

    @staticmethod
    def of(case: Case) -> Layout:
        inputs, free = lay_out([Spec.of(master) for master in case.masters], ALIGNMENT)
        outputs: list[tuple[str, Slot | None]] = []
        for expected in case.expected:
            if expected.spec is None:
                outputs.append((expected.path, None))
                continue
            (slot,), free = lay_out([expected.spec], free)
            outputs.append((expected.path, slot))
        end = -(-free // ALIGNMENT) * ALIGNMENT
        return Layout(inputs, outputs, end - ALIGNMENT)

    def size(self, calls: int) -> int:
        """Bytes for *calls* calls, and one more whose inputs lend others their stale elements."""
        return ALIGNMENT + self.stride * (calls + 1)


class Sealed:
    """An arena for chunks of up to *calls* calls, mapped in *worker*. Close it after use."""

    def __init__(self, worker: Worker, case: Case, calls: int, device: int, timeout_s: float) -> None:
        self.worker = worker
        self.layout = Layout.of(case)
        self.calls = calls
        self.timeout_s = timeout_s
        self._token = 0
        self.arena = CudaArena.create(self.layout.size(calls), device)
        try:
            self._flag = self.arena.bytes[_FLAG : _FLAG + 4].view(torch.int32)
            self._flag.zero_()
            torch.cuda.synchronize()
            worker.ask("seal", Reply.SEALED, timeout_s, {"arena_bytes": self.arena.size}, [self.arena.fd])
        except BaseException:
            self.arena.close()
            raise

    def __enter__(self) -> Sealed:
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()  # a stream left stalled would hold the worker's last moments up
        self.arena.close()

    def run(self, packed: list[bytes], halves: list[Completion], stall: bool, options: dict[str, Any]) -> Timed:
        """Have the worker run one call for each of *packed*, whose inputs lie in the arena but for *halves*.

        Raises Stuck (after releasing the stream) where the calls could not all be queued, and what a worker's end
        raises.
        """
        self._token += 1
        plan = {
            "inputs": [slot.to_json() for slot in self.layout.inputs],
            "outputs": [[path, slot.to_json() if slot is not None else None] for path, slot in self.layout.outputs],
            "stride": self.layout.stride,
            "packed": [len(blob) for blob in packed],
            "flag": _FLAG,
            "token": self._token,
            "stall": stall,
            **options,
        }
        blobs: list[bytes | int] = [json.dumps(plan).encode(), b"".join(packed)]
        # Python needs some 50 µs to launch a call; a slow host ten times that.
        patience = 1.0 + 0.01 * len(packed) if stall else self.timeout_s
        self.worker.send("queue", {}, blobs)
        try:
            self.worker.answer(Reply.QUEUED, patience, keep=stall)
        except WorkerTimeout as late:
            if not stall:
                raise
            self._release()
            self.worker.answer(Reply.QUEUED, self.timeout_s)
            self.worker.ask("finish", Reply.FINISHED, self.timeout_s, {})
            raise Stuck from late
        if stall:
            self.worker.send("finish", {})  # it now waits for its stream
        torch.cuda.synchronize()
        started = time.perf_counter()
        for half in halves:
            half.complete()
        if stall:
            self._release()
        else:
            torch.cuda.synchronize()
            self.worker.send("finish", {})
        self.worker.answer(Reply.FINISHED, self.timeout_s)
        sample = self._sample(len(packed))
        torch.cuda.synchronize()
        wall_ms = (time.perf_counter() - started) * 1e3
        reply = self.worker.ask("claims", Reply.CLAIMED, self.timeout_s, {})
        return Timed(reply, wall_ms, sample)

    def flat(self, slot: Slot, calls: int, step: int, offset: int = 0) -> torch.Tensor:
        """Every *step*-th element of *slot*'s storage from *offset* on, of all calls: (calls, elements)."""
        dtype = torch_dtype(slot.dtype)
        whole = self.arena.bytes[slot.offset :]
        whole = whole[: whole.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        count = slot.storage_bytes // dtype.itemsize
        taken = max(0, -(-(count - offset) // step))
        start = whole.storage_offset() + offset  # as_strided counts from the storage's own beginning
        return torch.as_strided(whole, (calls, taken), (self.layout.stride // dtype.itemsize, step), start)

    def poison(self, calls: int) -> None:
        """Fill all outputs with what no honest call leaves there."""
        for _, slot in self.layout.outputs:
            if slot is not None:
                view = self.flat(slot, calls, 1)
                floating = view.dtype.is_floating_point or view.dtype.is_complex
                view.fill_(float("nan") if floating else POISON.get(view.dtype, 1))

    def sample_again(self, calls: int) -> list[torch.Tensor]:
        return self._sample(calls, redraw=False)

    def _sample(self, calls: int, redraw: bool = True) -> list[torch.Tensor]:
        slots = [slot for _, slot in self.layout.outputs if slot is not None]
        if redraw:
            self._offsets = [secrets.randbelow(_step(slot, SAMPLE)) for slot in slots]
        return [
            self.flat(slot, calls, _step(slot, SAMPLE), offset).clone()
            for slot, offset in zip(slots, self._offsets, strict=True)
        ]

    def _release(self) -> None:
        self._flag.fill_(self._token)


@dataclass(frozen=True)
class Timed:
    """What came back of one chunk."""

    reply: dict[str, Any]
    wall_ms: float
    sample: list[torch.Tensor]


@dataclass(frozen=True)
class Completion:
    """The elements of one input that are stale until the clock runs, in the arena, and what belongs there."""

    there: torch.Tensor
    right: torch.Tensor

    def complete(self) -> None:
        self.there.copy_(self.right)


def empty_chunk(sealed: Sealed, packed: bytes, calls: int, stall: bool) -> float:
    """The wall clock over a chunk of the empty worker, in ms, with as much to complete and to sample."""
    halves = []
    for slot in sealed.layout.inputs:
        there = sealed.flat(slot, calls, _step(slot, STALE))
        halves.append(Completion(there, there.clone()))
    timed = sealed.run([packed] * calls, halves, stall, {"empty": True, "restore": False})
    return timed.wall_ms


def sealed_chunk(
    sealed: Sealed, sitting: Sitting, calls: int, stall: bool, checked: int, allclose: float | None, empty_ms: float
) -> Chunk:
    """One chunk of the sitting's candidate; *checked* of its calls are compared with the reference.

    Raises Wrong, Rejected, ProtocolBreak, and what a worker's end raises.
    """
    draws = _draws(sitting, calls)
    watched = set(secrets.SystemRandom().sample(range(calls), min(checked, calls)))
    packed, kept, halves = _fill(sealed, draws, watched)
    sealed.poison(calls)
    options = {"empty": False, "restore": sitting.reference.stateful}
    timed = sealed.run(packed, halves, stall, options)
    sitting.delivered(timed.reply, sitting.current(0))
    claims = finite_floats(timed.reply.get("claims"), calls)
    if len(claims) != calls or min(claims) <= 0:
        raise ProtocolBreak(f"the worker gave {len(claims)} times for {calls} calls, or a time of zero")
    _verify(sealed, sitting, timed, kept, calls, allclose)
    return Chunk(tuple(claims), timed.wall_ms, empty_ms)


def _draws(sitting: Sitting, calls: int) -> list[list[Any]]:
    """*calls* sets of inputs of the shapes of case 0, and one more that lends the last call its stale elements."""
    wanted = [Spec.of(master) for master in sitting.current(0).masters]
    draws: list[list[Any]] = []
    slow = False
    for _ in range(calls + 1):
        started = time.perf_counter()
        if slow and draws:
            inputs = _varied(draws[secrets.randbelow(min(len(draws), 4))])
        else:
            inputs = sitting.reference.fresh_inputs()
            torch.cuda.synchronize()
            slow = time.perf_counter() - started > _SLOW_DRAW_S and len(draws) > 0
        if [Spec.of(leaf) for _, leaf in flatten(inputs) if is_tensor(leaf)] != wanted:
            inputs = _varied(sitting.reference.given_inputs(sitting.draw))
        draws.append(inputs)
    return draws


def _varied(inputs: list[Any]) -> list[Any]:
    """*inputs* times one secret factor near 1: other contents at the price of a copy."""
    factor = 0.5 + secrets.randbelow(1 << 20) / (1 << 21)

    def vary(leaf: Any) -> Any:
        return leaf * factor if is_tensor(leaf) and leaf.dtype.is_floating_point else leaf

    return [torch.utils._pytree.tree_map(vary, value) for value in inputs]


def _fill(
    sealed: Sealed, draws: list[list[Any]], watched: set[int]
) -> tuple[list[bytes], dict[int, list[Any]], list[Completion]]:
    """Lay the draws into the arena, stale elements included; returns their structures, the *watched* ones' inputs,
    and what completes them."""
    calls = len(draws) - 1
    steps = [_step(slot, STALE) for slot in sealed.layout.inputs]
    offsets = [secrets.randbelow(step) for step in steps]
    packed, kept = [], {}
    for number, inputs in enumerate(draws):
        masters: list[torch.Tensor] = []
        packed.append(pack(inputs, is_tensor, masters))
        for slot, master in zip(sealed.layout.inputs, masters, strict=True):
            sealed.arena.view(slot.moved(number * sealed.layout.stride)).copy_(master)
        if number in watched:
            kept[number] = inputs
    halves = []
    for slot, step, offset in zip(sealed.layout.inputs, steps, offsets, strict=True):
        all_of_them = sealed.flat(slot, calls + 1, step, offset)
        right, stale = all_of_them[:-1].clone(), all_of_them[1:].clone()
        all_of_them[:-1].copy_(stale)
        halves.append(Completion(all_of_them[:-1], right))
    return packed[:calls], kept, halves


def _verify(
    sealed: Sealed, sitting: Sitting, timed: Timed, kept: dict[int, list[Any]], calls: int, allclose: float | None
) -> None:
    """The outputs are those that were there when the clock stopped, and those of the watched calls are right."""
    for before, after in zip(timed.sample, sealed.sample_again(calls), strict=True):
        if not identical(before, after):
            raise Rejected("outputs changed after forward had handed them over: work was still going on")
    for number, inputs in kept.items():
        case = sitting.reference.case_of(inputs, sitting.draw, secrets.randbits(31))
        move = number * sealed.layout.stride
        for index, (given, master) in enumerate(zip(sealed.layout.inputs, case.masters, strict=True)):
            if index not in case.mutable and not identical(sealed.arena.view(given.moved(move)), master):
                raise Rejected(f"forward changed input {index} in a timed call, which the reference leaves alone")
        for expected, (_, slot) in zip(case.expected, sealed.layout.outputs, strict=True):
            if slot is None:
                continue
            found = compare(sealed.arena.view(slot.moved(move)).clone(), expected, allclose)
            if found.message:
                raise Wrong(Verdict(found.error, f"in a timed call: {found.message}"))
    written = [path for path, slot in sealed.layout.outputs if slot is not None]
    for path, sample in zip(written, timed.sample, strict=True):
        if sample.numel() and sample.dtype.is_floating_point:
            unwritten = sample.isnan().all(dim=1).nonzero()
            if len(unwritten):
                raise Wrong(Verdict(None, f"output{path} of timed call {int(unwritten[0])} of {calls} was not written"))


def _step(slot: Slot, every: int) -> int:
    """One in *every* elements of a large tensor; at least 64 of a small one; all of a tiny one."""
    count = max(1, slot.storage_bytes // torch_dtype(slot.dtype).itemsize)
    return max(1, min(every, count // 64))
