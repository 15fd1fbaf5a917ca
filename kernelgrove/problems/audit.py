"""Tells whether a problem can be passed without doing it: by zeros, by one constant, by an answer to other inputs.

Such a problem says nothing about a kernel at that tolerance: it is marked degenerate, and left out of aggregates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

#: The share of an output's elements that the zeroed tail takes: one in so many.
_TAIL = 16

#: Whether an answer, leaf by leaf, would be taken for right.
Passes = Callable[[list[torch.Tensor]], bool]


def weaknesses(expected: Sequence[torch.Tensor], other: Sequence[torch.Tensor], passes: Passes) -> list[str]:
    """What would pass for *expected*, a line each: zeros, each tensor's mean everywhere, a zeroed tail, or *other* (the
    answer to other inputs). *passes* is the rule that answers are held to. Answers are made one after the other."""
    tricks: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "zeros": torch.zeros_like,
        "one constant (the mean)": _mean,
        "the output with its tail left zero": _without_tail,
    }
    found = [name for name, trick in tricks.items() if passes([trick(tensor) for tensor in expected])]
    if [tensor.shape for tensor in expected] == [tensor.shape for tensor in other] and passes(list(other)):
        found.append("the output for another seed's inputs")
    return [f"degenerate: {name} would pass" for name in found]


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return torch.full_like(tensor, tensor.mean().item())
    mean = tensor.double().mean()  # fp8 has none of its own
    return torch.full_like(tensor, (mean if tensor.is_floating_point() else mean.round()).item())


def _without_tail(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.reshape(-1).clone()
    flat[flat.numel() - max(1, flat.numel() // _TAIL) :] = 0
    return flat.reshape(tensor.shape)
