"""Where the inputs and outputs of many calls lie in one arena, and what is done to all of them at once.

Every call has the same layout, one *stride* after the other, so that a kernel or two completes, poisons or samples all.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..checking.judged_reference import Case
from ..checking.tensors import bits, is_tensor
from ..sittings.sitting import POISON
from ..wire.arena import ALIGNMENT, Arena, Slot, Spec, lay_out, torch_dtype
from ..wire.structure import pack

#: One element in so many of each output is looked at while the clock runs.
SAMPLE = 256


@dataclass(frozen=True)
class Layout:
    """Slots of the first call; call *j*'s lie *j* × *stride* bytes further on. The first ALIGNMENT bytes are free."""

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

    @property
    def talks(self) -> bool:
        """Whether some output is no tensor: it is said in a message."""
        return any(slot is None for _, slot in self.outputs)

    def size(self, calls: int) -> int:
        return ALIGNMENT + self.stride * calls

    @property
    def masked(self) -> tuple[int, int]:
        """Where the first call's inputs begin, and how many bytes, of whole vectors, all of them are."""
        end = max((slot.offset + slot.storage_bytes for slot in self.inputs), default=ALIGNMENT)
        return ALIGNMENT, -(-(end - ALIGNMENT) // 16) * 16

    @property
    def digested(self) -> tuple[int, int]:
        """Where its outputs begin, and how many bytes, of whole words, all of them are."""
        slots = [slot for _, slot in self.outputs if slot is not None]
        start = min((slot.offset for slot in slots), default=ALIGNMENT)
        end = max((slot.offset + slot.storage_bytes for slot in slots), default=ALIGNMENT)
        return start, -(-(end - start) // 4) * 4

    def to_json(self) -> dict[str, Any]:
        outputs = [[path, slot.to_json() if slot is not None else None] for path, slot in self.outputs]
        return {"inputs": [slot.to_json() for slot in self.inputs], "outputs": outputs, "stride": self.stride}


@dataclass(frozen=True)
class Filled:
    """Inputs drawn for a chunk, which are not yet in the arena: the structures around them, each input tensor's
    elements as (calls, elements), and the inputs of those calls that will be compared, by number."""

    packed: list[bytes]
    right: list[torch.Tensor]
    watched: dict[int, list[Any]] = field(default_factory=dict)


class Slots:
    """The slots of many calls in *arena*."""

    def __init__(self, arena: Arena, layout: Layout) -> None:
        self.arena = arena
        self.layout = layout
        self._places: list[torch.Tensor] = []  # of the elements that a sample takes, for each output

    def prime(self, inputs: list[Any], calls: int) -> None:
        """Let all calls' inputs be these at first: of the right form, and wrong."""
        masters: list[torch.Tensor] = []
        pack(inputs, is_tensor, masters)
        for slot, master in zip(self.layout.inputs, masters, strict=True):
            for number in range(calls):
                self.arena.view(slot.moved(number * self.layout.stride)).copy_(master)

    def fill(self, draws: Iterable[list[Any]], calls: int, watched: set[int]) -> Filled:
        """Take *draws* for *calls* calls into the judge's own memory. What lies in their places is an earlier chunk's:
        none of them may be there, in no order, before the clock runs."""
        packed: list[bytes] = []
        kept: dict[int, list[Any]] = {}
        right = [torch.zeros_like(self.flat(slot, calls)) for slot in self.layout.inputs]  # gaps become readable
        for number, inputs in enumerate(draws):
            masters: list[torch.Tensor] = []
            packed.append(pack(inputs, is_tensor, masters))
            for slot, elements, master in zip(self.layout.inputs, right, masters, strict=True):
                torch.as_strided(elements[number], slot.shape, slot.strides, elements[number].storage_offset()).copy_(
                    master
                )
            if number in watched:
                kept[number] = inputs
        return Filled(packed, right, kept)

    def unchanged(self, packed: bytes, calls: int) -> Filled:
        """As much for others to complete as ``fill`` leaves: what lies here, whatever it is."""
        return Filled([packed] * calls, [self.flat(slot, calls) for slot in self.layout.inputs])

    def complete(self, filled: Filled, calls: int) -> None:
        """Put the right inputs of the first *calls* calls in their places."""
        for slot, right in zip(self.layout.inputs, filled.right, strict=True):
            self.flat(slot, calls).copy_(right[:calls])

    def poison(self, calls: int) -> None:
        """Fill all outputs with what no honest call leaves there."""
        for _, slot in self.layout.outputs:
            if slot is not None:
                view = self.flat(slot, calls)
                floating = view.dtype.is_floating_point or view.dtype.is_complex
                view.fill_(float("nan") if floating else POISON.get(view.dtype, 1))

    def aim(self) -> None:
        """Draw in secret which elements the next samples take: one of every few, each of these wherever it falls. Of
        one in so many at one distance, whoever leaves a tenth of all elements out would be missed nine times in ten."""
        slots = [slot for _, slot in self.layout.outputs if slot is not None]
        device = self.arena.bytes.device
        generator = torch.Generator(device).manual_seed(secrets.randbits(62))
        self._places = []
        for slot in slots:
            count, step = _elements(slot), _step(slot, SAMPLE)
            begins = torch.arange(0, count, step, device=device)
            within = torch.randint(0, step, begins.shape, generator=generator, device=device)
            self._places.append((begins + within).clamp_max(max(count - 1, 0)))

    def sample(self, calls: int) -> list[torch.Tensor]:
        """The share of the first *calls* calls' output elements that ``aim`` drew, one tensor an output."""
        slots = [slot for _, slot in self.layout.outputs if slot is not None]
        pairs = zip(slots, self._places, strict=True)
        return [_taken(self.flat(slot, calls), 1, places) for slot, places in pairs]

    def copy_outputs(self, first: int, calls: int, into: torch.Tensor | None = None) -> torch.Tensor:
        """The judge's own copy of what lies in the outputs' places of *calls* calls: (calls, bytes)."""
        start, size = self.layout.digested
        whole = self.arena.bytes[start + first * self.layout.stride :]
        padded = -(-size // ALIGNMENT) * ALIGNMENT  # up to the next call's places: copies lie as the originals do
        there = torch.as_strided(whole, (calls, padded), (self.layout.stride, 1), whole.storage_offset())
        return there.clone() if into is None else into.copy_(there)

    def sample_of(self, copied: torch.Tensor) -> list[torch.Tensor]:
        """Of one call's ``copy_outputs`` what ``sample`` takes of each call."""
        slots = [slot for _, slot in self.layout.outputs if slot is not None]
        pairs = zip(slots, self._places, strict=True)
        return [_taken(self._of(slot, copied), 0, places) for slot, places in pairs]

    def views(self, copied: torch.Tensor) -> list[torch.Tensor | None]:
        """One call's ``copy_outputs`` as tensors; None for an output that is no tensor."""
        return [
            torch.as_strided(self._of(slot, copied), slot.shape, slot.strides) if slot is not None else None
            for _, slot in self.layout.outputs
        ]

    def _of(self, slot: Slot, copied: torch.Tensor) -> torch.Tensor:
        at = slot.offset - self.layout.digested[0]
        return copied[at : at + slot.storage_bytes].view(torch_dtype(slot.dtype))

    def flat(self, slot: Slot, calls: int) -> torch.Tensor:
        """The elements of *slot*'s storage, of all calls: (calls, elements)."""
        dtype = torch_dtype(slot.dtype)
        whole = self.arena.bytes[slot.offset :]
        whole = whole[: whole.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        start = whole.storage_offset()  # as_strided counts from the storage's own beginning
        return torch.as_strided(whole, (calls, _elements(slot)), (self.layout.stride // dtype.itemsize, 1), start)


def _taken(elements: torch.Tensor, dim: int, places: torch.Tensor) -> torch.Tensor:
    """The elements at *places*: by their bits, as not every type can be picked from."""
    return bits(elements).index_select(dim, places).view(elements.dtype)


def _step(slot: Slot, every: int) -> int:
    """One in *every* elements of a large tensor; at least 64 of a small one; all of a tiny one."""
    return max(1, min(every, _elements(slot) // 64))


def _elements(slot: Slot) -> int:
    return slot.storage_bytes // torch_dtype(slot.dtype).itemsize
