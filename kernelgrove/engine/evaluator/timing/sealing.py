"""Sealed timing, the judge's side: chunks of calls that cannot be done before the clock runs, nor after it stops.

A chunk of N calls, each with inputs and outputs of its own:

1. the judge draws N inputs nobody has seen and keeps them; in their places lie an earlier chunk's. It fills the outputs
   with NaN;
2. the worker queues N calls behind a stalled stream: what it computes ahead of the stream, it computes on wrong inputs;
3. the judge starts its clock, copies the right inputs in and releases the stream, on the GPU, in that order;
4. the worker says when its stream is through; the judge takes a secret sample of all outputs and stops its clock;
5. the outputs must still hold that sample, and some of the calls, drawn in secret, are compared with the reference.

What an *empty* worker (trusted; its outputs are ready before it is asked) took for the same chunk just before is
subtracted.
Chunks of one call after the other (*serial*) tell one launch that serves many calls from many.
"""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..checking.correctness import Verdict, compare
from ..checking.judged_reference import Case
from ..checking.tensors import identical, is_tensor
from ..checking.values import compare_value
from ..sittings.sitting import Rejected, Sitting, Wrong
from ..wire.arena import CudaArena, Spec, torch_dtype
from ..wire.protocol import ProtocolBreak, Reply, finite_floats
from ..wire.structure import flatten
from ..workers.handle import Worker, WorkerTimeout
from .figures import Chunk
from .slots import Filled, Layout, Slots

#: So many inputs of a chunk are drawn, as long as one takes no longer than this, seconds; the others are varied.
_DRAWN, _SLOW_DRAW_S = 4, 0.03
_PENDING = 1 << 30  # bytes of outputs that may wait to be compared
_PLACES = 1 << 16  # where factors that vary inputs may begin
_FLAG = 0  # where in the arena the word lies that releases the stream
_CHANGED = "outputs changed after forward had handed them over: work was still going on"
_TOKENS = itertools.count(1)  # one after the other in whatever arena: what released a stream releases none again


class Stuck(Exception):
    """The calls could not all be queued: forward waits for its stream, or launches more than a queue takes."""


@dataclass(frozen=True)
class Timed:
    """What came back of one chunk."""

    reply: dict[str, Any]
    wall_ms: float
    sample: list[torch.Tensor]


class Ground:
    """An arena for chunks of up to *calls* calls. Several workers may be sealed in it, which take turns. Close it after
    use. *arena*: one to use that others use too, in turns; it stays open. Raises CudaError."""

    def __init__(self, case: Case, calls: int, device: int, arena: CudaArena | None = None) -> None:
        layout = Layout.of(case)
        self._own = arena is None
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
        torch.cuda.synchronize()
        worker.ask("seal", Reply.SEALED, timeout_s, {"arena_bytes": ground.arena.size}, [ground.arena.fd])

    def leave(self) -> None:
        """Have the worker let go of the ground's memory."""
        self.worker.ask("unseal", Reply.SEALED, self.timeout_s, {})

    def run(self, filled: Filled, first: int, calls: int, stall: bool, options: dict[str, Any]) -> Timed:
        """Have the worker run *calls* calls of *filled* from *first* on, behind a stalled stream where *stall*.

        Raises Stuck (after releasing the stream) where they could not all be queued, and what a worker's end raises.
        """
        packed = filled.packed[first : first + calls]
        ground = self.ground
        plan = {
            **ground.slots.layout.to_json(),
            "first": first,
            "packed": [len(blob) for blob in packed],
            "flag": _FLAG,
            "token": ground.stall(),
            "stall": stall,
            **options,
        }
        self.worker.send("queue", {}, [json.dumps(plan).encode(), b"".join(packed)])
        self._await_queued(calls, stall)
        if stall:
            self.worker.send("finish", {})  # it now waits for its stream
        torch.cuda.synchronize()
        started = time.perf_counter()
        ground.slots.complete(filled, first, calls)
        if stall:
            ground.release()
        else:
            torch.cuda.synchronize()
            self.worker.send("finish", {})
        self.worker.answer(Reply.FINISHED, self.timeout_s)
        reply = None
        if any(slot is None for _, slot in ground.slots.layout.outputs):  # what is no tensor is handed over with it
            reply = self._claims()
        sample = ground.slots.sample(first, calls)
        torch.cuda.synchronize()
        wall_ms = (time.perf_counter() - started) * 1e3
        return Timed(reply or self._claims(), wall_ms, sample)

    def _claims(self) -> dict[str, Any]:
        return self.worker.ask("claims", Reply.CLAIMED, self.timeout_s, {})

    def _await_queued(self, calls: int, stall: bool) -> None:
        if not stall:
            self.worker.answer(Reply.QUEUED, self.timeout_s)
            return
        try:
            self.worker.answer(Reply.QUEUED, 0.25 + self._launch_s * calls, keep=True)
        except WorkerTimeout as late:
            self.ground.release()
            self.worker.answer(Reply.QUEUED, self.timeout_s)
            self.worker.ask("finish", Reply.FINISHED, self.timeout_s, {})
            raise Stuck from late


def empty_chunk(sealed: Sealed, filled: Filled, calls: int, stall: bool) -> float:
    """The wall clock over a chunk of the empty worker, in ms, with as much to complete and to sample. *filled*:
    ``Slots.unchanged`` of so many calls or more."""
    return sealed.run(filled, 0, calls, stall, {"empty": True, "restore": False}).wall_ms


class Pending:
    """Comparisons with the reference that wait until nobody is timed: their operands are copies of the judge's own."""

    def __init__(self) -> None:
        self._compare: list[Callable[[], None]] = []
        self._bytes = 0

    def add(self, compare: Callable[[], None], size: int) -> None:
        """*size*: bytes of the copies that *compare* holds. Where there are many, it is done at once."""
        self._bytes += size
        if self._bytes > _PENDING:
            compare()
        else:
            self._compare.append(compare)

    def settle(self) -> None:
        """Raises Wrong, Rejected."""
        while self._compare:
            self._compare.pop(0)()


class Round:
    """*calls* calls on fresh inputs, of which *checked* are compared with the reference: run together, or one by one.

    Raises what ``Sealed.run`` raises, and Wrong, Rejected, ProtocolBreak; those of the comparisons through *pending*.
    """

    def __init__(
        self, sealed: Sealed, sitting: Sitting, calls: int, checked: int, allclose: float | None, pending: Pending
    ) -> None:
        self.sealed, self.sitting, self.calls, self.allclose = sealed, sitting, calls, allclose
        self._pending = pending
        self.slots = slots = sealed.ground.slots
        self.watched = set(secrets.SystemRandom().sample(range(calls), min(checked, calls)))
        if checked and any(slot is None for _, slot in slots.layout.outputs):
            self.watched.add(calls - 1)  # what is no tensor is told of the last call alone
        self.filled = slots.fill(_draws(sitting, calls), calls, self.watched)
        slots.poison(calls)

    @property
    def bytes(self) -> int:
        """Of the inputs that it holds."""
        return sum(right.numel() * right.element_size() for right in self.filled.right)

    def together(self, stall: bool, empty_ms: float) -> Chunk:
        return self._run(0, self.calls, stall, empty_ms)

    def one(self, number: int, stall: bool, empty_ms: float) -> Chunk:
        """Call *number* alone."""
        return self._run(number, 1, stall, empty_ms)

    def _run(self, first: int, calls: int, stall: bool, empty_ms: float) -> Chunk:
        options = {"empty": False, "restore": self.sitting.reference.stateful}
        timed = self.sealed.run(self.filled, first, calls, stall, options)
        self.sitting.delivered(timed.reply, self.sitting.current(0))
        claims = finite_floats(timed.reply.get("claims"), calls)
        if len(claims) != calls or min(claims) <= 0:
            raise ProtocolBreak(f"the worker gave {len(claims)} times for {calls} calls, or a time of zero")
        self._verify(timed, first, calls)
        return Chunk(tuple(claims), timed.wall_ms, empty_ms)

    def _verify(self, timed: Timed, first: int, calls: int) -> None:
        """The outputs are those that were there when the clock stopped, and those of the watched calls are right."""
        slots = self.slots
        for number in self.watched & set(range(first, first + calls)):
            self._take(number, [of_all[number - first] for of_all in timed.sample], number == first + calls - 1)
        for before, after in zip(timed.sample, slots.sample_again(first, calls), strict=True):
            if not identical(before, after):
                raise Rejected(_CHANGED)
        written = [path for path, slot in slots.layout.outputs if slot is not None]
        for path, sample in zip(written, timed.sample, strict=True):
            if sample.numel() and sample.dtype.is_floating_point:
                unwritten = sample.isnan().all(dim=1).nonzero()
                if len(unwritten):
                    call = first + int(unwritten[0])
                    raise Wrong(Verdict(None, f"output{path} of timed call {call} of {self.calls} was not written"))

    def _take(self, number: int, sample: list[torch.Tensor], last: bool) -> None:
        """Take copies of what call *number* left, to be compared. They hold what was there when the clock stopped, of
        which *sample* is a secret part. *last*: its outputs that are no tensors are known. Raises Rejected."""
        slots, sitting, drawn = self.slots, self.sitting, self.filled.watched[number]
        move = number * slots.layout.stride
        given = [slots.arena.view(slot.moved(move)).clone() for slot in slots.layout.inputs]
        copied = slots.copy_outputs(number)
        # The copies themselves: whoever knows when they are taken could put right outputs there just before.
        for before, after in zip(sample, slots.sample_of(copied), strict=True):
            if not identical(before, after):
                raise Rejected(_CHANGED)
        outputs = slots.views(copied)
        said, allclose = sitting.said if last else None, self.allclose
        copies = [*given, *copied]
        size = 2 * sum(copy.numel() * copy.element_size() for copy in copies)  # with the inputs as they were drawn
        self._pending.add(lambda: _compare(sitting, drawn, given, outputs, said, allclose), size)


def _compare(
    sitting: Sitting,
    drawn: list[Any],
    given: list[torch.Tensor],
    outputs: list[torch.Tensor | None],
    said: list[Any] | None,
    allclose: float | None,
) -> None:
    """Compare what a timed call made of *drawn*: its inputs afterwards, its outputs, and what it said of those that are
    no tensors. Raises Wrong, Rejected."""
    case = sitting.reference.case_of(drawn, sitting.draw, secrets.randbits(31))
    for index, (now, master) in enumerate(zip(given, case.masters, strict=True)):
        if index not in case.mutable and not identical(now, master):
            raise Rejected(f"forward changed input {index} in a timed call, which the reference leaves alone")
    for leaf, (expected, output) in enumerate(zip(case.expected, outputs, strict=True)):
        if output is not None:
            found = compare(output, expected, allclose)
        elif said is not None:
            _path, _shape, kind, shown = said[leaf]
            found = compare_value(kind, shown, expected, allclose)
        else:
            continue
        if found.message:
            raise Wrong(Verdict(found.error, f"in a timed call: {found.message}"))


def _draws(sitting: Sitting, calls: int) -> Iterator[list[Any]]:
    """*calls* sets of inputs of the shapes of case 0. A few are drawn; the others are these, changed in every element
    by a secret factor: other contents, at the price of a copy. Integers cannot be changed so: they are drawn, as long
    as that is quick."""
    wanted = [Spec.of(master) for master in sitting.current(0).masters]
    varies = all(torch_dtype(spec.dtype).is_floating_point for spec in wanted)
    noise = Noise(sitting.bench.device)
    drawn: list[list[Any]] = []
    slow = False
    for _ in range(calls):
        if drawn and (slow or (varies and len(drawn) >= _DRAWN)):
            yield noise.vary(drawn[secrets.randbelow(len(drawn))])
            continue
        started = time.perf_counter()
        inputs = sitting.reference.fresh_inputs()
        torch.cuda.synchronize()
        slow = bool(drawn) and time.perf_counter() - started > _SLOW_DRAW_S
        if [Spec.of(leaf) for _, leaf in flatten(inputs) if is_tensor(leaf)] != wanted:
            inputs = noise.vary(sitting.reference.given_inputs(sitting.draw))  # another seed, other shapes
        if len(drawn) < _DRAWN:
            drawn.append(inputs)
        yield inputs


class Noise:
    """Secret factors between 0.9 and 1.1, one an element. For each tensor of one size they are read from the same draw,
    each time from another secret place on: a fresh draw a call would take longer than many a kernel."""

    def __init__(self, device: str) -> None:
        self._generator = torch.Generator(device).manual_seed(secrets.randbits(62))
        self._drawn: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def factors(self, like: torch.Tensor) -> torch.Tensor:
        """Of the shape, type and device of *like*."""
        key = (like.numel(), like.dtype)
        if key not in self._drawn:
            drawn = torch.rand(like.numel() + _PLACES, generator=self._generator, device=like.device)
            self._drawn[key] = drawn.mul_(0.2).add_(0.9).to(like.dtype)
        at = 16 * secrets.randbelow(_PLACES // 16)  # where vectors begin
        return self._drawn[key][at : at + like.numel()].view(like.shape)

    def vary(self, inputs: list[Any]) -> list[Any]:
        """*inputs* with each element changed by up to a tenth, its sign kept."""
        varied: list[Any] = pytree.tree_map(
            lambda leaf: leaf * self.factors(leaf) if is_tensor(leaf) and leaf.dtype.is_floating_point else leaf,
            inputs,
        )
        return varied
