"""Inputs other than the problem draws: what a kernel that is right on ``torch.rand`` may still get wrong.

Verdicts where the problem allows them (a finite, well-conditioned reference); the last two are advice only, since a
problem's ``get_inputs`` says what its inputs look like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .tensors import computable

#: Exact in every floating type, and so is any sum of few enough of it.
_CONSTANT = 0.5
#: Elements between the rows of inputs that are not contiguous.
_GAP = 8


@dataclass(frozen=True)
class Variant:
    """*flat*: all elements are equal, so that ties are broken anyhow. *near*: outputs come near zero, and may be
    rounding noise of what is not: errors are relative to ordinary outputs."""

    name: str
    change: Callable[[torch.Tensor], torch.Tensor]
    flat: bool = False
    near: bool = False
    advice: bool = False


def _centred(tensor: torch.Tensor) -> torch.Tensor:
    """About zero: ``torch.rand`` inputs hide that a kernel computes in lower precision."""
    return tensor - tensor.double().mean().to(tensor.dtype)


def _strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values over memory with gaps."""
    if tensor.dim() == 0:
        return tensor
    wider = tensor.new_empty((*tensor.shape[:-1], tensor.shape[-1] + _GAP))
    inside = wider[..., : tensor.shape[-1]]
    inside.copy_(tensor)
    return inside


def gaps(tensor: torch.Tensor) -> int:
    """Bytes that a tensor takes more where it is not contiguous, and is aligned."""
    rows = tensor.numel() // max(tensor.shape[-1], 1) if tensor.dim() else 0
    return rows * _GAP * tensor.element_size() + 512


CENTRED = Variant("inputs centred on zero", _centred)
VARIANTS = (
    Variant("inputs times 1e-3", lambda t: t * 1e-3, near=True),
    Variant("inputs times 1e3", lambda t: t * 1e3),
    Variant("negated inputs", lambda t: -t),
    CENTRED,
    Variant("inputs of zeros", torch.zeros_like, flat=True, near=True),
    Variant(f"inputs of {_CONSTANT}", lambda t: torch.full_like(t, _CONSTANT), flat=True, near=True),
    Variant("inputs with a mean of 100", lambda t: t + 100, advice=True),
    Variant("inputs that are not contiguous", _strided, advice=True),
)


def apply(variant: Variant, inputs: list[Any]) -> list[Any]:
    """*inputs* with every floating tensor changed; the rest as it is."""

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.dtype.is_floating_point:
            return leaf
        changed = variant.change(computable(leaf))
        return changed if changed.dtype == leaf.dtype else changed.to(leaf.dtype)

    changed: list[Any] = pytree.tree_map(change, inputs)
    return changed
