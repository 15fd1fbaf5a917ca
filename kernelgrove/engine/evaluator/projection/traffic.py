"""Which bytes an ATen operator touches: regions of storages, each counted once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: DRAM moves whole sectors of this many bytes (CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory").
SECTOR = 32

#: In-place operators that do not read what they overwrite.
_OVERWRITE = frozenset(
    """fill zero copy uniform normal random bernoulli exponential geometric cauchy log_normal set_ eye arange
    index_fill""".split()
)


@dataclass(frozen=True)
class Operands:
    """Tensors that an operator reads and writes; a tensor updated in place is in both."""

    reads: tuple[torch.Tensor, ...]
    writes: tuple[torch.Tensor, ...]

    @property
    def read_bytes(self) -> int:
        return sum(map(touched, self.reads))

    @property
    def write_bytes(self) -> int:
        return sum(map(touched, self.writes))


def touched(tensor: torch.Tensor) -> int:
    """Bytes of storage that reading all of *tensor* moves: broadcast dimensions once, overlapping windows once, and
    whole sectors where the innermost stride skips elements."""
    if tensor.layout is not torch.strided:
        return int(tensor.numel() * tensor.element_size())  # sparse: the nominal size
    dims = [(abs(s), n) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n != 1 and s != 0]
    if tensor.numel() == 0:
        return 0
    item = tensor.element_size()
    if not dims:
        return item
    distinct = math.prod(n for _, n in dims)
    span = sum(stride * (n - 1) for stride, n in dims) + 1
    gap = min(stride for stride, _ in dims)
    return int(min(distinct * min(gap, max(1, SECTOR // item)), span) * item)


def operands(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, name: str) -> Operands:
    """Sort the tensors of one call of *func* by its schema. Nothing in ``writes`` means that it only made a view."""
    reads: dict[tuple[Any, ...], torch.Tensor] = {}
    writes: dict[tuple[Any, ...], torch.Tensor] = {}
    storages: set[int] = set()
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tensors(value):
            storages.add(_storage(tensor))
            if written:
                writes.setdefault(_region(tensor), tensor)
            if not written or (name not in _OVERWRITE and argument.name != "out"):
                reads.setdefault(_region(tensor), tensor)
    for tensor in tensors(out):
        if _storage(tensor) not in storages:
            writes.setdefault(_region(tensor), tensor)
    return Operands(tuple(reads.values()), tuple(writes.values()))


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in an argument or a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def _storage(tensor: torch.Tensor) -> int:
    if tensor.layout is not torch.strided:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


def _region(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    return (_storage(tensor), tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))
