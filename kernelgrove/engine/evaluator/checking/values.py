"""Outputs that are no tensors: the numbers, texts and None that forward returns beside its tensors.

A float was computed from tensors and is held to what a tensor would be; everything else must be equal. Most such floats
are sums over everything, in which large terms may cancel. Errors are therefore never relative to less than the float's
*sensitivity*: what it changes by, in proportion, when each element of the inputs is changed a little at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..wire.structure import described, flatten
from .correctness import Expected, Verdict, compare, expect_floating
from .tensors import computable

#: By what share the inputs are changed, and how often, to see what a float is sensitive to.
_SHARE, _DRAWS = 2.0**-7, 3


def expect_value(path: str, own: Any, exact: Any, lowest: float, random: bool, least: float = 0.0) -> Expected:
    """What to expect of a leaf that is no tensor, from PyTorch's *own* result and the fp64 one (None: not possible).
    *lowest* is the ``floor`` of the computation. A *random* one has only to be of its kind."""
    if described(own)[0] != "float" or random:
        return Expected(path, None, value=own, random=random)
    wanted = _scalar(exact) if exact is not None and described(exact)[0] == "float" else None
    return replace(expect_floating(path, None, _scalar(own), wanted, lowest, least), value=own)


def sensitivities(forward: Callable[[list[Any]], Any], inputs: list[Any], own: Any) -> dict[str, float]:
    """The sensitivity of each float among the leaves of *own*, which is ``forward(inputs)``, by path."""
    floats = {path: float(leaf) for path, leaf in flatten(own) if described(leaf)[0] == "float"}
    found = {path: [0.0] for path in floats}
    for seed in range(_DRAWS if floats else 0):
        for path, leaf in flatten(forward(_shaken(inputs, seed))):
            if path in floats and described(leaf)[0] == "float" and math.isfinite(leaf):
                found[path].append((float(leaf) - floats[path]) / _SHARE)
    return {path: math.sqrt(sum(d * d for d in drawn) / max(1, len(drawn) - 1)) for path, drawn in found.items()}


def _shaken(inputs: list[Any], seed: int) -> list[Any]:
    def shake(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.dtype.is_floating_point:
            return leaf
        generator = torch.Generator(leaf.device).manual_seed(seed)  # the process's own belongs to references
        signs = torch.randint(0, 2, leaf.shape, generator=generator, device=leaf.device, dtype=torch.int8) * 2 - 1
        values = computable(leaf)
        return (values * (1 + _SHARE * signs.to(values.dtype))).to(leaf.dtype)

    shaken: list[Any] = pytree.tree_map(shake, inputs)
    return shaken


def compare_value(kind: str, shown: str | None, expected: Expected, allclose: float | None = None) -> Verdict:
    """Compare what a worker says of a leaf (``structure.described``) with what is expected."""
    name = f"output{expected.path}"
    wanted_kind, wanted = described(expected.value)
    if kind != wanted_kind and (wanted_kind, kind) != ("float", "int"):
        return Verdict(None, f"{name} is a {kind}, expected the {wanted_kind} {wanted}")
    if wanted_kind != "float":
        if shown == wanted or expected.random:
            return Verdict(None)
        return Verdict(None, f"{name} is {shown}, expected {wanted}")
    try:
        got = float(shown or "")
    except ValueError:
        return Verdict(None, f"{name} is a {kind} that is no number, expected {wanted}")
    if expected.random:
        return Verdict(
            None, "" if math.isfinite(got) else f"{name} is {got}, expected a finite number such as {wanted}"
        )
    return compare(_scalar(got), expected, allclose)


def _scalar(value: Any) -> torch.Tensor:
    return torch.tensor(float(value), dtype=torch.float64)
