"""What a reference computes with: its longest reduction, and the lowest arithmetic that a policy lets it use."""

from __future__ import annotations

from typing import Any

from ..projection.reductions import CONVOLUTIONS, PRODUCTS, LongestReduction, op_name


class Operators(LongestReduction):
    """Also tells whether the reference multiplies matrices or convolves: where TF32 may come in."""

    def __init__(self) -> None:
        super().__init__()
        self.matmuls = self.convolutions = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op_name(func)
        self.matmuls = self.matmuls or name in PRODUCTS
        self.convolutions = self.convolutions or name in CONVOLUTIONS
        return super().__torch_dispatch__(func, types, args, kwargs)


def lowest_arithmetic(precision: str, device: str, reduction: Operators) -> str:
    """The lowest arithmetic that the policy lets the reference's operators use."""
    if precision == "any":
        return "bf16"
    if not device.startswith("cuda") or precision == "strict":
        return "none"
    if reduction.convolutions or (precision == "tf32" and reduction.matmuls):
        return "tf32"
    return "none"
