"""Tells whether a problem can be passed without doing it: by zeros, by one constant, by an answer to other inputs.

Such a problem says nothing about a kernel at that tolerance, and is marked degenerate.
"""

from __future__ import annotations

from typing import Any

import torch

from .outputs import flatten
from .reference import Reference

#: KernelBench's absolute and relative tolerance, the loosest in use.
TOLERANCE = 1e-2

_SEED = 20_011


def audit(reference: Reference, device: torch.device | str = "cpu", tolerance: float = TOLERANCE) -> list[str]:
    """Why *reference* is degenerate at ``allclose(atol=rtol=tolerance)``, a line a weakness; empty where it is not.

    Runs it twice, with one set of weights and two of inputs; raises ProblemError where it does not run.
    """
    model = reference.make(_SEED, device)
    first = _tensors(reference.run(model, reference.inputs(_SEED + 1, device)))
    second = _tensors(reference.run(model, reference.inputs(_SEED + 2, device)))
    return weaknesses(first, second, tolerance)


def weaknesses(expected: list[torch.Tensor], other: list[torch.Tensor], tolerance: float = TOLERANCE) -> list[str]:
    """What would pass for *expected*: zeros, each tensor's mean everywhere, or *other* (the answer to other inputs)."""
    tricks = {
        "zeros": [torch.zeros_like(tensor) for tensor in expected],
        "one constant (the mean)": [_mean(tensor) for tensor in expected],
    }
    if [tensor.shape for tensor in expected] == [tensor.shape for tensor in other]:
        tricks["the output for another seed's inputs"] = other
    return [
        f"degenerate: {name} would pass at a tolerance of {tolerance:g}"
        for name, answers in tricks.items()
        if all(_close(answer, tensor, tolerance) for answer, tensor in zip(answers, expected, strict=True))
    ]


def _tensors(output: Any) -> list[torch.Tensor]:
    return [leaf.detach().clone() for _, leaf in flatten(output) if isinstance(leaf, torch.Tensor)]


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() or tensor.is_complex():
        return torch.full_like(tensor, tensor.mean().item())
    return torch.full_like(tensor, tensor.double().mean().round().item())


def _close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    if expected.is_floating_point() or expected.is_complex():
        return torch.allclose(actual, expected, rtol=tolerance, atol=tolerance)
    return torch.equal(actual, expected)
