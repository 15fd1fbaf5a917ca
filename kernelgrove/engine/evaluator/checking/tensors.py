"""Small questions about tensors that the judge asks in several places."""

from __future__ import annotations

from typing import Any

import torch

from ..wire.arena import Spec


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def clone(value: Any, floating: torch.dtype | None = None) -> Any:
    """A copy of nested inputs, strides kept as ``Spec.of`` does, floating tensors cast where *floating* is given."""
    if isinstance(value, torch.Tensor):
        spec = Spec.of(value)
        copied = torch.empty_strided(spec.shape, spec.strides, dtype=value.dtype, device=value.device)
        copied.copy_(value)
        return copied.to(floating) if floating is not None and value.dtype.is_floating_point else copied
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(clone(item, floating) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(clone(item, floating) for item in value)
    if isinstance(value, dict):
        return {key: clone(item, floating) for key, item in value.items()}
    return value


def computable(tensor: torch.Tensor) -> torch.Tensor:
    """*tensor*, or the same values in a type that PyTorch computes in: fp8, and unsigned integers of more than a byte,
    it stores and converts only."""
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1:
        return tensor.float()
    return tensor.to(torch.int64) if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """*tensor* as integers of the same size; as it is where there are none so large."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(kinds.get(tensor.dtype.itemsize, tensor.dtype))


def identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal element by element, NaN to NaN."""
    a, b = computable(a), computable(b)
    return bool(((a == b) | ((a != a) & (b != b))).all())


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for the order of sums."""
    a, b = computable(a), computable(b)
    if not a.dtype.is_floating_point:
        return bool((a == b).all())
    if not a.numel():
        return True
    return bool(torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(a.abs().max().nan_to_num(0.0)), equal_nan=True))
