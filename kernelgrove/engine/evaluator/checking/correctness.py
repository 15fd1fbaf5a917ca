"""Is an output right? Runs in the judge, on the judge's own copies.

The rule (docs/evaluation.md): the error of an element is its distance from an fp64 reference relative to the
largest magnitude in its row (its last dimension; the whole tensor where a row is all zeros or has under 32
elements). The tolerance is ``min(max(4 * own, floor), 16 * floor)``: *own* is the error of PyTorch itself at the
precision that both sides are allowed, ``floor = 2 * eps(dtype) + eps(fp32) * sqrt(K)`` with K the longest reduction
that the reference performs, plus four unit roundoffs of TF32 or bf16 where the policy allows that arithmetic. An
element is never asked to be nearer than twice PyTorch's own absolute error in its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..wire.arena import Spec
from ..wire.structure import described, label
from .randomness import Draws, real
from .tensors import computable

_EPS_FP32 = torch.finfo(torch.float32).eps
#: No honest kernel adds more terms one after the other: a longer sum is one of sums. Without an end to it, a norm of a
#: hundred million elements could be had from a quarter of them.
_LONGEST = 1 << 16
#: What an fp64 result may be off by, in units of its own: there is nothing more exact to measure PyTorch by.
_FP64_ULPS = 1 << 12
_MIN_ROW = 32
_CHUNK = 1 << 23  # elements compared at once: bounds the fp64 temporaries at 64 MiB each
#: Four times the unit roundoff of the lowest arithmetic that a policy allows (TF32 keeps 10 bits of mantissa, bf16 7):
#: both operands of a product are rounded, and the worst of many elements lies about three deviations out.
ROUNDOFF = {"none": 0.0, "tf32": 2.0**-9, "bf16": 2.0**-6}


@dataclass(frozen=True)
class Expected:
    """One leaf of the reference's output. *exact* is fp64 (or the dtype itself for integers and booleans, or where
    fp64 was not possible); *own_rows* is PyTorch's own absolute error a row."""

    path: str
    spec: Spec | None  # None: not a tensor (``values.py``); where *value* is a float, *exact* is a tensor of it
    value: Any = None
    exact: torch.Tensor | None = None
    own_rows: torch.Tensor | None = None
    tolerance: float = 0.0
    random: bool = False
    draws: Draws | None = None  # of a random tensor: what it is compared with instead
    note: str = ""
    least: float = 0.0  # a magnitude: errors are never relative to less
    strained: bool = False  # PyTorch's own error is at the cap: what comes out depends on the order of its sums


@dataclass(frozen=True)
class Verdict:
    """``message`` is empty where the leaf is right; ``error`` is relative as above, None where it has no meaning."""

    error: float | None
    message: str = ""


def floor(dtype: torch.dtype, longest_reduction: int, arithmetic: str = "none") -> float:
    """The smallest tolerance that honest kernels of *dtype* can be held to."""
    terms = min(max(longest_reduction, 1), _LONGEST)
    roundoff = min(_EPS_FP32, _FP64_ULPS * torch.finfo(dtype).eps)
    return float(2 * torch.finfo(dtype).eps + roundoff * math.sqrt(terms) + ROUNDOFF[arithmetic])


def tolerance(own: float, lowest: float) -> float:
    return min(max(4 * own, lowest), 16 * lowest)


def expect(
    path: str,
    own: torch.Tensor,
    exact: torch.Tensor | None,
    longest_reduction: int,
    arithmetic: str,
    least: float = 0.0,
) -> Expected:
    """Build what to expect of one tensor from PyTorch's *own* result and the fp64 one (None: not possible)."""
    spec = Spec.of(own)
    if not own.dtype.is_floating_point:
        if own.dtype.is_complex:
            parts = real(own)
            return Expected(path, spec, exact=parts.double(), tolerance=16 * floor(parts.dtype, longest_reduction))
        return Expected(path, spec, exact=computable(own).clone())
    lowest = floor(own.dtype, longest_reduction, arithmetic)
    return expect_floating(path, spec, computable(own), exact, lowest, least)


def expect_floating(
    path: str, spec: Spec | None, own: torch.Tensor, exact: torch.Tensor | None, lowest: float, least: float = 0.0
) -> Expected:
    """What to expect of a tensor of real numbers. *lowest* is the ``floor`` of its type and computation."""
    if exact is None:
        note = "compared to PyTorch's own result: an fp64 reference was not possible"
        return Expected(path, spec, exact=own.clone(), tolerance=4 * lowest, note=note, least=least)
    exact = exact.to(torch.float64)
    if not exact.numel():
        return Expected(path, spec, exact=exact, tolerance=lowest)
    rows_own, rows_exact = _rows(own), _rows(exact)
    if any(bool(rows_own[part].isinf().any()) for part in _blocks(rows_own)):
        # Its type's range is the problem's own: what it is off by there is no yardstick.
        exact = torch.where(own.isinf() & exact.isfinite(), own.double(), exact)
        rows_exact = _rows(exact)
    own_rows = torch.zeros(rows_own.shape[0], dtype=torch.float64, device=own.device)
    for rows, columns in _blocks(rows_own):
        distance = (rows_own[rows, columns].double() - rows_exact[rows, columns]).abs().nan_to_num(0.0, 0.0, 0.0)
        own_rows[rows] = torch.maximum(own_rows[rows], distance.amax(dim=1))
    worst = float((own_rows / _scale(rows_exact, least)).max()) if exact.numel() else 0.0
    limit = tolerance(worst, lowest)
    return Expected(path, spec, None, exact, own_rows, limit, least=least, strained=4 * worst > 16 * lowest)


def expect_random(path: str, first: torch.Tensor, longest_reduction: int, arithmetic: str) -> Expected:
    """What to expect of a tensor that differs from draw to draw, with one draw of it. Further ones are added to
    ``draws``."""
    spec, wanted = Spec.of(first), computable(real(first)).clone()
    if not wanted.dtype.is_floating_point:
        return Expected(path, spec, exact=wanted, random=True, draws=Draws(wanted, wanted.new_zeros(())))
    own = first.dtype if first.dtype.is_floating_point else wanted.dtype
    limit = 4 * floor(own, longest_reduction, arithmetic)
    allowed = limit * _scale(_rows(wanted), 0.0) if wanted.numel() else wanted.new_zeros(1)
    allowed = allowed.reshape((*wanted.shape[:-1], 1) if len(allowed) > 1 else ())
    return Expected(path, spec, None, wanted, None, limit, random=True, draws=Draws(wanted, allowed))


def compare(got: torch.Tensor, expected: Expected, allclose: float | None = None) -> Verdict:
    """Compare a leaf of the right shape and dtype. *allclose* asks for KernelBench's rule at that tolerance."""
    wanted = expected.exact
    assert wanted is not None
    got = computable(real(got))
    name = f"output{expected.path}"
    if got.numel() == 0:
        return Verdict(0.0)
    if expected.draws is not None:
        unlike = expected.draws.unlike(got)
        return Verdict(None, f"{name}: the reference is random, and {unlike}" if unlike else "")
    if not got.dtype.is_floating_point:
        different = got != wanted
        count = int(different.sum())
        if not count:
            return Verdict(0.0)
        at = tuple(different.nonzero()[0].tolist())
        message = f"{name}{_at(at)} is {got[at].item()}, expected {wanted[at].item()}; "
        return Verdict(None, message + f"{count} of {got.numel()} elements differ")
    mine, exact = _rows(got), _rows(wanted)
    scale = _scale(exact, expected.least)[:, None]
    allowed = _allowed(expected, scale)
    worst, worst_at, bad = -1.0, 0, 0
    for rows, columns in _blocks(mine):
        ours, theirs = mine[rows, columns].double(), exact[rows, columns].double()
        distance = (ours - theirs).abs()
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        limit = allowed[rows] if allclose is None else allclose + allclose * theirs.abs()
        relative = (distance / scale[rows]).masked_fill(same, 0.0).nan_to_num(math.inf, math.inf)
        wrong = ~((distance <= limit) | same)
        bad += int(wrong.sum())
        # The element shown is the worst among those that are wrong, if any are.
        ranked = torch.where(wrong, relative + 1e6, relative) if bad else relative
        value, index = ranked.flatten().max(dim=0)
        if float(value) > worst:
            row, column = divmod(int(index), ranked.shape[1])
            worst, worst_at = float(value), (rows.start + row) * mine.shape[1] + columns.start + column
    at = unravel(worst_at, tuple(got.shape))
    error = worst - 1e6 if worst >= 1e6 and math.isfinite(worst) else worst
    if not bad:
        return Verdict(error)
    shown_got, shown_wanted = float(got[at]), float(wanted[at])
    rule = (
        f"allclose at {allclose:g}"
        if allclose is not None
        else f"tolerance {expected.tolerance:.1e} of the row's maximum"
    )
    if math.isnan(shown_got) and not math.isnan(shown_wanted):
        detail = "NaN"
    else:
        detail = f"{shown_got:.7g}"
    far = f"error {error:.1e}; " if math.isfinite(error) else ""
    message = f"{name}{_at(at)} is {detail}, expected {shown_wanted:.7g} ({far}{rule}); "
    message += f"{bad} of {got.numel()} elements differ, {_where(mine, exact, expected, allclose)}"
    return Verdict(error if math.isfinite(error) else None, message)


def describe_mismatch(leaves: list[list[Any]], count: int, expected: list[Expected], device: str | None = None) -> str:
    """What is wrong with the form of outputs: their number, then path, shape, dtype and device (where that matters) of
    the first that differs. Empty where nothing is."""
    if count != len(expected):
        return f"forward returned {count} output{'s' if count != 1 else ''}, expected {len(expected)}"
    for (path, shape, dtype, where), want in zip(leaves, expected, strict=False):
        name = f"output{want.path}"
        if path != label(want.path):
            return f"forward returned output{path} where {name} was expected"
        if want.spec is None:
            kind, shown = described(want.value)
            if shape is not None or (dtype != kind and not (kind == "float" and dtype == "int")):
                is_now = "a tensor" if shape is not None else f"a {dtype}"
                return f"{name} is {is_now}, expected the {kind} {shown}"
            continue
        if shape is None:
            return f"{name} is a {dtype}, expected a tensor of shape {tuple(want.spec.shape)}"
        if tuple(shape) != want.spec.shape:
            return f"{name} has shape {tuple(shape)}, expected shape {want.spec.shape}"
        if dtype != want.spec.dtype:
            return f"{name} has dtype {dtype}, expected {want.spec.dtype}"
        if device is not None and where is not None and where != device:
            return f"{name} is on {where}, expected on {device}"
    return ""


# ------------------------------------------------------------------------------------------------- rows


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """As a matrix of rows along the last dimension; one row where that has under 32 elements."""
    if tensor.dim() >= 2 and tensor.shape[-1] >= _MIN_ROW:
        return tensor.reshape(-1, tensor.shape[-1])
    return tensor.reshape(1, -1)


def _scale(rows: torch.Tensor, least: float) -> torch.Tensor:
    """What each row's errors are relative to: its largest magnitude, or the tensor's where it is all zeros."""
    scale = torch.maximum(rows.amax(dim=1), -rows.amin(dim=1)).double()
    if not bool(scale.isfinite().all()):
        scale = rows.abs().nan_to_num(0.0, 0.0, 0.0).amax(dim=1).double()
    return torch.where(scale > 0, scale, scale.max()).clamp_min(max(least, 1e-30))


def _allowed(expected: Expected, scale: torch.Tensor) -> torch.Tensor:
    """The largest error of an element, a row: (rows, 1)."""
    allowed = expected.tolerance * scale
    return allowed if expected.own_rows is None else torch.maximum(allowed, 2 * expected.own_rows[:, None])


def _blocks(rows: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and columns that bound what is held in fp64 at once."""
    count, width = rows.shape
    columns = max(1, min(width, _CHUNK))
    step = max(1, _CHUNK // columns)
    for start in range(0, count, step):
        for left in range(0, width, columns):
            yield slice(start, min(start + step, count)), slice(left, min(left + columns, width))


def unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        index.append(flat % size)
        flat //= size
    return tuple(reversed(index))


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def _where(rows: torch.Tensor, exact: torch.Tensor, expected: Expected, allclose: float | None) -> str:
    """Which rows and columns are wrong, as a hint: a tail, one row, everywhere."""
    if rows.numel() > 1 << 24:
        return "in a large output"
    mine, theirs = rows.double(), exact.double()
    limit = _allowed(expected, _scale(exact, expected.least)[:, None])
    if allclose is not None:
        limit = allclose + allclose * theirs.abs()
    wrong = ~(((mine - theirs).abs() <= limit) | (mine == theirs))
    in_rows, in_columns = wrong.any(dim=1).nonzero().flatten(), wrong.any(dim=0).nonzero().flatten()
    if not len(in_rows):
        return "spread out"
    return f"in {_span(in_rows, rows.shape[0], 'row')} and {_span(in_columns, rows.shape[1], 'column')}"


def _span(found: torch.Tensor, size: int, what: str) -> str:
    if len(found) == size:
        return f"all {size} {what}s"
    first, last = int(found[0]), int(found[-1])
    return f"{what} {first} of {size}" if first == last else f"{what}s {first} to {last} of {size}"
