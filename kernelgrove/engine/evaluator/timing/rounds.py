"""One round of calls on fresh inputs, under seal: drawn, run, and compared with the reference."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..checking.correctness import Verdict, compare
from ..checking.tensors import computable, identical, is_tensor
from ..checking.values import compare_value
from ..sittings.sitting import Rejected, Sitting, Wrong
from ..wire.arena import Spec, torch_dtype
from ..wire.protocol import ProtocolBreak, finite_floats
from ..wire.structure import flatten
from .figures import Chunk
from .sealing import Sealed, Timed

#: So many inputs of a chunk are drawn, as long as one takes no longer than this, seconds; the others are varied.
_DRAWN, _SLOW_DRAW_S = 4, 0.03
_PENDING = 1 << 30  # bytes of outputs that may wait to be compared
_PLACES = 1 << 16  # where factors that vary inputs may begin
_CHANGED = "outputs changed after forward had handed them over: work was still going on"


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
        if checked and slots.layout.told:
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
        for before, after in zip(timed.sample, slots.sample(first, calls), strict=True):
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

    def _varied(self, leaf: torch.Tensor) -> torch.Tensor:
        values = computable(leaf)
        return (values * self.factors(values)).to(leaf.dtype)

    def vary(self, inputs: list[Any]) -> list[Any]:
        """*inputs* with each element changed by up to a tenth, its sign kept."""
        varied: list[Any] = pytree.tree_map(
            lambda leaf: self._varied(leaf) if is_tensor(leaf) and leaf.dtype.is_floating_point else leaf,
            inputs,
        )
        return varied
