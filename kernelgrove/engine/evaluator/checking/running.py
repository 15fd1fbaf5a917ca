"""A reference is run: under one draw of its weights, as it is and in fp64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernelgrove.problems.reference import drawing, seed_torch

from ..wire.arena import distinct
from ..wire.structure import flatten
from .memory import available
from .tensors import clone, is_tensor

_LITTLE = 4 << 30  # bytes that there are on any GPU
_COPIES = 3  # in fp64, of the inputs and of what is computed of them: timing leaves room for as many (timing/seats.py)


@dataclass(frozen=True)
class Weights:
    """One draw: the seed that constructs both sides, and the reference's state under it."""

    seed: int
    model: torch.nn.Module
    state: list[tuple[str, torch.Tensor]]

    @staticmethod
    def of(model: torch.nn.Module, seed: int, disturbed: bool) -> Weights:
        """*disturbed*: with those changed that every seed leaves alike."""
        if disturbed:
            _disturb(model, seed)
        return Weights(seed, model, [(name, value.detach().clone()) for name, value in model.state_dict().items()])


def forward(weights: Weights, inputs: Sequence[Any], seed: int) -> Any:
    """One call from the state that the weights have; it may change *inputs*."""
    with drawing, torch.no_grad():
        _restore(weights, weights.model)
        return forward_again(weights, inputs, seed)


def forward_again(weights: Weights, inputs: Sequence[Any], seed: int) -> Any:
    """One call from whatever state the last one has left."""
    with drawing, torch.no_grad():
        seed_torch(seed)
        return weights.model(*inputs)


def exact_forward(weights: Weights, inputs: Sequence[Any], seed: int) -> Any:
    """One call in fp64, or None where the reference cannot run so (its own casts). Raises torch.OutOfMemoryError where
    there is no memory for it now."""
    tensors = [leaf for _, leaf in flatten(list(inputs)) if is_tensor(leaf)]
    gpu = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
    try:
        need = fp64_bytes(inputs)
        # Asking the driver takes milliseconds while it makes contexts for others: not for what fits any GPU.
        if gpu is not None and need > _LITTLE and need > available(gpu.index or 0):
            raise torch.OutOfMemoryError(f"fp64 needs some {need >> 20} MiB")
        model = copy.deepcopy(weights.model)
        with drawing, torch.no_grad():
            _restore(weights, model)
            model = model.double()
            seed_torch(seed)
            output = model(*clone(inputs, torch.float64))
        for _, leaf in flatten(output):
            if is_tensor(leaf) and leaf.dtype in (torch.float32, torch.float16, torch.bfloat16):
                return None  # it casts inside: its fp64 is not one
        return output
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError):
        return None


def fp64_bytes(inputs: Sequence[Any]) -> int:
    """That ``exact_forward`` takes, about."""
    elements: int = sum(leaf.numel() for _, leaf in flatten(list(inputs)) if is_tensor(leaf))
    return elements * 8 * _COPIES


def _restore(weights: Weights, model: torch.nn.Module) -> None:
    own = model.state_dict()
    for name, value in weights.state:
        distinct(own[name]).copy_(distinct(value, own[name]))


def _disturb(model: torch.nn.Module, seed: int) -> None:
    """Change parameters whose elements are all equal: a kernel that leaves them out would otherwise never show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.reshape(-1)[0]).all()):
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 0.5 - 0.25
                parameter.add_(noise.to(parameter))
