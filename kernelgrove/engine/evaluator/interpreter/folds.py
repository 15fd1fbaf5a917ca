"""``tl.reduce`` and ``tl.associative_scan`` over whole slices instead of element by element.

A combine function is called on blocks: pairs of neighbours for a reduction, blocks shifted by 1, 2, 4, … for a scan;
log₂ n calls, order kept, association free as on the device. One that branches on its values cannot take blocks and
falls back to the interpreter's own loop over elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl

from . import internals
from .builder import Builder, made, numbers
from .formats import Array
from .internals import Handle


class BlockHasNoTruth(TypeError):
    """``bool()`` of a block: on the device a compile error."""


def _tensor(data: Array, kind: Any) -> Any:
    """A tensor of the language from stored data (bits for narrow floats); a scalar keeps shape (1,)."""
    kind = kind.scalar
    if data.ndim == 0:
        return tl.tensor(Handle(data.reshape(1), kind), kind)
    return tl.tensor(Handle(data, kind), tl.block_type(kind, list(data.shape)))


def _stored(result: Any, like: Any) -> Array:
    """What a combine function gave, as data of the input's type."""
    if isinstance(result, tl.tensor):
        return np.asarray(made(numbers(result.handle), like.dtype).data)
    return np.asarray(made(np.asarray(getattr(result, "value", result)), like.dtype).data)


def _call(combine: Any, left: list[Array], right: list[Array], inputs: tuple[Any, ...]) -> list[Array]:
    given = [_tensor(d, t.dtype) for d, t in zip(left, inputs, strict=True)]
    given += [_tensor(d, t.dtype) for d, t in zip(right, inputs, strict=True)]
    results = combine(*given)
    results = results if isinstance(results, (tuple, tl.tuple)) else (results,)
    return [np.broadcast_to(_stored(r, t), d.shape) for r, t, d in zip(results, inputs, right, strict=True)]


def _fold(data: list[Array], axis: int, combine: Any, inputs: tuple[Any, ...]) -> list[Array]:
    """Reduce along ``axis`` by pairs of neighbours."""
    data = [np.moveaxis(d, axis, -1) for d in data]
    while (length := data[0].shape[-1]) > 1:
        even = length // 2 * 2
        left, right = [d[..., 0:even:2] for d in data], [d[..., 1:even:2] for d in data]
        joined = _call(combine, left, right, inputs)
        if even < length:
            joined = [np.concatenate([j, d[..., even:]], axis=-1) for j, d in zip(joined, data, strict=True)]
        data = joined
    return [d[..., 0] for d in data]


def _scan(data: list[Array], axis: int, combine: Any, inputs: tuple[Any, ...]) -> list[Array]:
    """Inclusive scan along ``axis``: each step joins every element with the one ``shift`` before it.

    The first ``shift`` elements have none: they are joined with themselves (a block's length is a power of two), and
    what that gives is thrown away.
    """
    data = [np.moveaxis(d, axis, -1).copy() for d in data]
    shift, length = 1, data[0].shape[-1]
    while shift < length:
        before = [np.concatenate([d[..., :shift], d[..., :-shift]], axis=-1) for d in data]
        joined = _call(combine, before, data, inputs)
        data = [np.concatenate([d[..., :shift], j[..., shift:]], axis=-1) for d, j in zip(data, joined, strict=True)]
        shift *= 2
    return [np.moveaxis(d, -1, axis) for d in data]


def _top(data: Array, axis: int | None, largest: bool) -> tuple[Array, Array]:
    """Extreme value, NaN ignored where anything else is there, and the first index that holds it."""
    if data.dtype.kind == "f" and np.isnan(data).any():
        data = np.where(np.isnan(data), -np.inf if largest else np.inf, data).astype(data.dtype)
    index = np.argmax(data, axis=axis) if largest else np.argmin(data, axis=axis)
    return (np.max if largest else np.min)(data, axis=axis), np.asarray(index)


_QUICK: dict[str, Callable[[Array, int], Any]] = {
    "_sum_combine": lambda d, axis: np.sum(d, axis=axis, dtype=d.dtype),
    "_elementwise_max": lambda d, axis: np.fmax.reduce(d, axis=axis),
    "_elementwise_min": lambda d, axis: np.fmin.reduce(d, axis=axis),
    "_prod_combine": lambda d, axis: np.prod(d, axis=axis, dtype=d.dtype),
    "_xor_combine": lambda d, axis: np.bitwise_xor.reduce(d, axis=axis),
    "_or_combine": lambda d, axis: np.bitwise_or.reduce(d, axis=axis),
}
_QUICK_SCAN: dict[str, Callable[[Array, int], Any]] = {
    "_sum_combine": lambda d, axis: np.cumsum(d, axis=axis, dtype=d.dtype),
    "_prod_combine": lambda d, axis: np.cumprod(d, axis=axis, dtype=d.dtype),
}


def _quick(combine: Any, table: dict[str, Any]) -> Any:
    """The NumPy equivalent where ``combine`` is Triton's own function of that name."""
    name = getattr(combine, "__name__", "")
    return table.get(name) if combine is getattr(tl.standard, name, None) else None


class Folds:
    """``reduce`` and ``scan`` bound to one semantic object."""

    def __init__(self) -> None:
        self.semantic: Any = None

    def _count(self, inputs: tuple[Any, ...], lines: int, length: int) -> None:
        builder: Builder = self.semantic.builder
        if builder.counts:
            for each in inputs[:1]:
                builder.elementwise(each.dtype.name, lines * (length - 1), False)

    def reduce(self, input: Any, axis: Any, combine_fn: Any, keep_dims: bool = False, **_: Any) -> Any:
        """``tl.reduce``; n-1 operations an output."""
        single = not isinstance(input, (tuple, tl.tuple))
        inputs = (input,) if single else tuple(input)
        axis = getattr(axis, "value", axis)
        keep = bool(getattr(keep_dims, "value", keep_dims))
        shape = list(inputs[0].handle.data.shape)
        self._check(axis, inputs)
        data = [np.broadcast_to(t.handle.data, shape) for t in inputs]
        flat = axis is None
        if flat:
            data, where = [d.reshape(-1) for d in data], 0
        else:
            where = axis % len(shape)
        length = data[0].shape[where]
        self._count(inputs, data[0].size // max(length, 1), length)
        results = self._reduced(inputs, data, where, combine_fn)
        if keep:
            kept = [1] * len(shape) if flat else [*shape[:where], 1, *shape[where + 1 :]]
            results = [r.reshape(kept) for r in results]
        out = tuple(_tensor(np.asarray(r), t.dtype) for r, t in zip(results, inputs, strict=True))
        return out[0] if single else out

    def _reduced(self, inputs: tuple[Any, ...], data: list[Array], axis: int, combine: Any) -> list[Array]:
        name = getattr(combine, "__name__", "")
        if len(inputs) == 1:
            quick = _quick(combine, _QUICK)
            if quick is not None and inputs[0].dtype.name != "int1":
                handle = Handle(data[0], inputs[0].dtype)
                return [np.asarray(made(np.asarray(quick(numbers(handle), axis)), inputs[0].dtype).data)]
        elif len(inputs) == 2 and name.endswith("_tie_break_left") and combine is getattr(tl.standard, name, None):
            largest = name.startswith("_argmax")
            best, index = _top(numbers(Handle(data[0], inputs[0].dtype)), axis, largest)
            chosen = np.take_along_axis(data[1], np.expand_dims(index, axis), axis=axis).squeeze(axis)
            return [np.asarray(made(np.asarray(best), inputs[0].dtype).data), chosen]
        try:
            return _fold(data, axis, combine, inputs)
        except BlockHasNoTruth:
            slow = internals.generic_reduce(axis, _Scalars(combine), False)
            whole = tuple(_tensor(d, t.dtype) for d, t in zip(data, inputs, strict=True))
            return [self._shaped(r, d, axis) for r, d in zip(slow.generic_reduce(whole), data, strict=True)]

    @staticmethod
    def _shaped(result: Any, data: Array, axis: int) -> Array:
        reshaped: Array = result.handle.data.reshape(data.shape[:axis] + data.shape[axis + 1 :])
        return reshaped

    def scan(self, input: Any, axis: Any, combine_fn: Any, reverse: bool = False, **_: Any) -> Any:
        """``tl.associative_scan``; n-1 operations a line."""
        single = not isinstance(input, (tuple, tl.tuple))
        inputs = (input,) if single else tuple(input)
        axis = getattr(axis, "value", axis)
        backward = bool(getattr(reverse, "value", reverse))
        self._check(axis, inputs)
        data = [np.asarray(t.handle.data) for t in inputs]
        where = axis % data[0].ndim
        self._count(inputs, data[0].size // max(data[0].shape[where], 1), data[0].shape[where])
        if backward:
            data = [np.flip(d, axis=where) for d in data]
        quick = _quick(combine_fn, _QUICK_SCAN)
        if quick is not None and single:
            results = [made(quick(numbers(Handle(data[0], inputs[0].dtype)), where), inputs[0].dtype).data]
        else:
            try:
                results = _scan(data, where, combine_fn, inputs)
            except BlockHasNoTruth:
                slow = internals.generic_scan(where, _Scalars(combine_fn), False)
                whole = tuple(_tensor(d, t.dtype) for d, t in zip(data, inputs, strict=True))
                results = [r.handle.data for r in slow.generic_scan(whole)]
        if backward:
            results = [np.flip(r, axis=where) for r in results]
        out = tuple(_tensor(np.asarray(r), t.dtype) for r, t in zip(results, inputs, strict=True))
        return out[0] if single else out

    @staticmethod
    def _check(axis: Any, inputs: tuple[Any, ...]) -> None:
        for each in inputs:
            if not isinstance(each, tl.tensor):
                raise ValueError(f"input must be a tensor, got {type(each).__name__}")
            rank = len(each.shape)
            if axis is not None and not -rank <= axis < max(rank, 1):
                raise ValueError(f"axis {axis} out of bounds for shape {[int(s) for s in each.shape]}")


class _Scalars:
    """A combine function in the form that the interpreter's element loop calls."""

    def __init__(self, combine: Any) -> None:
        self.fn = combine
