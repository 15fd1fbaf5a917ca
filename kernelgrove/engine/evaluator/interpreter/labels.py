"""Which device a tensor says it is on, and which memory the host can write without torch.

A tensor that was put elsewhere than on CUDA carries a label as an attribute; all others are on ``cuda:0``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CUDA = torch.device("cuda", 0)
HOST = torch.device("cpu")
LABEL = "_kernelgrove_device"
real_device_of = torch._C.TensorBase.device.__get__


class State:
    """Of the pretence in this process."""

    standin = HOST
    inside = 0
    labels = False  # has any tensor ever been put elsewhere than on CUDA
    mode: Any = None


state = State()


def logical_device(tensor: torch.Tensor) -> torch.device:
    """The device that ``tensor`` says it is on."""
    found: torch.device | None = tensor.__dict__.get(LABEL)
    if found is not None:
        return found
    return CUDA if state.mode is not None else real_device(tensor)


def real_device(tensor: torch.Tensor) -> torch.device:
    """The device that ``tensor`` is on in truth."""
    with torch._C.DisableTorchFunction():
        real: torch.device = real_device_of(tensor)
        return real


def label(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """Let ``tensor`` say that it is on ``device``; ``None`` is CUDA."""
    if device is None or device.type == "cuda":
        tensor.__dict__.pop(LABEL, None)
    else:
        state.labels = True
        tensor.__dict__[LABEL] = device
    return tensor


_extents: dict[int, int] = {}  # first byte → one past the last, of each adopted tensor


def adopt(tensor: torch.Tensor) -> torch.Tensor:
    """Take a tensor made outside the candidate as one that was always on the device, alone in its memory.

    For a slot of a larger block of shared memory: a kernel may touch the slot's bytes, not the block's.
    """
    label(tensor, None)
    with torch._C.DisableTorchFunction():
        tensor.untyped_storage().__dict__.pop(_SHARED, None)
        if tensor.numel():
            last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            low = tensor.data_ptr()
            _extents[low] = max(_extents.get(low, 0), low + (last + 1) * tensor.element_size())
    return tensor


def extent(tensor: torch.Tensor) -> tuple[int, int]:
    """The bytes that a kernel given ``tensor`` may touch: its storage, or the adopted tensor that it is a view of."""
    storage = tensor.untyped_storage()
    start = storage.data_ptr()
    if _extents:
        at = tensor.data_ptr()
        for low, high in _extents.items():
            if low <= at < high and start <= low:
                return low, high
    return start, start + storage.nbytes()


# Memory that NumPy or a Python buffer can write behind torch's back; ``watching`` asks.

_SHARED = "_kernelgrove_shared"


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Remember that the host can write this tensor's memory without torch."""
    with torch._C.DisableTorchFunction():
        if tensor.layout is torch.strided:
            setattr(tensor.untyped_storage(), _SHARED, True)
    return tensor


def is_shared(storage: Any) -> bool:
    """Can the host write this storage without torch?"""
    return _SHARED in storage.__dict__


_HERE = f"{Path(__file__).parent}/"
_PACKAGE = f"{Path(__file__).parents[3]}/"
_TORCH = f"{Path(torch.__file__).parent}/"


def ours() -> bool:
    """Is it the evaluator itself that calls torch? It means the real device when it says "cpu"."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_HERE, _TORCH)):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)


@contextlib.contextmanager
def truthfully() -> Iterator[None]:
    """Within it this package's own code sees tensors as they are."""
    before, state.inside = state.inside, 1
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        state.inside = before
