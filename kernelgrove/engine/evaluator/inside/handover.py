"""A worker's outputs: are they of the form asked for, what are they if not, and copying them into the judge's slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..wire.arena import torch_dtype
from ..wire.structure import DESCRIBED, described, label

#: The leaves of an output with their paths (``structure.flatten``), and what the judge wants: path and slot of each.
Leaves = Sequence[tuple[str, Any]]
Wanted = Sequence[Any]
#: Kind and value (``structure.described``) of each leaf of a call's output that is no tensor.
Said = list[list[str | None]]


def describe(leaves: Leaves) -> list[list[Any]]:
    """Path, shape, dtype and device of the first leaves, as a reply carries them; of one that is no tensor path, None,
    kind and value."""
    found: list[list[Any]] = []
    for path, leaf in leaves[:DESCRIBED]:
        if isinstance(leaf, torch.Tensor):
            found.append([label(path), list(leaf.shape), str(leaf.dtype).removeprefix("torch."), leaf.device.type])
        else:
            found.append([label(path), None, *described(leaf)])
    return found


def fits(leaves: Leaves, wanted: Wanted) -> bool:
    """Whether number, paths, shapes and dtypes are as wanted."""
    if len(leaves) != len(wanted):
        return False
    for (path, leaf), (wanted_path, slot) in zip(leaves, wanted, strict=True):
        if path != wanted_path or isinstance(leaf, torch.Tensor) != (slot is not None):
            return False
        if slot is not None:
            _offset, _bytes, shape, _strides, dtype = slot
            if list(leaf.shape) != shape or leaf.dtype != torch_dtype(dtype):
                return False
    return True


def copy(leaves: Leaves, targets: Sequence[torch.Tensor | None]) -> None:
    """Copy leaves that fit into their places, in the current stream."""
    with torch.no_grad():
        for (_path, leaf), target in zip(leaves, targets, strict=True):
            if target is not None:
                target.copy_(leaf.detach())


def said(leaves: Leaves, targets: Sequence[torch.Tensor | None]) -> Said:
    """Kind and value of each of *leaves*, which fit, that is no tensor."""
    pairs = zip(leaves, targets, strict=True)
    return [list(described(leaf)) for (_path, leaf), target in pairs if target is None]


def report(leaves: Leaves, copied: bool) -> dict[str, Any]:
    return {"leaves": describe(leaves), "count": len(leaves), "copied": copied}
