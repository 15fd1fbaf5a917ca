"""A worker's outputs: are they of the form asked for, what are they if not, and copying them into the judge's slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..wire.arena import torch_dtype
from ..wire.structure import DESCRIBED, described, label

#: The leaves of an output with their paths (``structure.flatten``); what the judge wants: path and slot of each; and
#: what that means: path of each, and shape and dtype of those that are tensors.
Leaves = Sequence[tuple[str, Any]]
Wanted = Sequence[Any]
Forms = Sequence[tuple[str, tuple[int, ...] | None, torch.dtype | None]]
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


def forms(wanted: Wanted) -> Forms:
    found: list[tuple[str, tuple[int, ...] | None, torch.dtype | None]] = []
    for path, slot in wanted:
        if slot is None:
            found.append((path, None, None))
        else:
            _offset, _bytes, shape, _strides, dtype = slot
            found.append((path, tuple(shape), torch_dtype(dtype)))
    return found


# These three are at work between timed calls, where the judge's clock sees the host of a forward that waits: what can
# be made ready is, and nothing is done twice.


def fits(leaves: Leaves, forms: Forms) -> bool:
    """Whether number, paths, shapes and dtypes are as wanted."""
    if len(leaves) != len(forms):
        return False
    for (path, leaf), (wanted_path, shape, dtype) in zip(leaves, forms, strict=True):
        if path != wanted_path or isinstance(leaf, torch.Tensor) != (shape is not None):
            return False
        if shape is not None and (leaf.shape != shape or leaf.dtype != dtype):
            return False
    return True


def copy(leaves: Leaves, targets: Sequence[torch.Tensor | None]) -> None:
    """Copy leaves that fit into their places, in the current stream."""
    for (_path, leaf), target in zip(leaves, targets, strict=True):
        if target is not None:
            target.copy_(leaf.detach() if leaf.requires_grad else leaf)


def said(leaves: Leaves, targets: Sequence[torch.Tensor | None]) -> Said:
    """Kind and value of each of *leaves*, which fit, that is no tensor."""
    pairs = zip(leaves, targets, strict=True)
    return [list(described(leaf)) for (_path, leaf), target in pairs if target is None]


def report(leaves: Leaves, copied: bool) -> dict[str, Any]:
    return {"leaves": describe(leaves), "count": len(leaves), "copied": copied}
