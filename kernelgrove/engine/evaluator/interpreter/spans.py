"""Sets of bytes as sorted, disjoint intervals; what a program touches of each storage."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formats import Array

_MERGE_AT = 1 << 20
_NONE: Array = np.zeros(0, np.int64)


def intervals(addresses: Array, size: int) -> tuple[Array, Array]:
    """Starts and ends (int64) of the runs of bytes that elements of ``size`` bytes at ``addresses`` cover."""
    where = addresses.astype(np.int64)
    if where.ndim == 0 or where.size == 1:
        flat = where.reshape(-1)
        return flat, flat + size
    for axis in (-1, 0) if where.ndim > 1 else (-1,):
        length = where.shape[axis]
        if length < 2:
            continue
        rows = np.moveaxis(where, axis, -1)
        if (rows[..., 1:] - rows[..., :-1] == size).all():
            return rows[..., 0].reshape(-1), rows[..., -1].reshape(-1) + size
    once = np.unique(where)
    breaks = np.flatnonzero(np.diff(once) > size)
    return once[np.concatenate([[0], breaks + 1])], once[np.concatenate([breaks, [once.size - 1]])] + size


class Spans:
    """A growing set of bytes."""

    def __init__(self) -> None:
        self._starts: list[Array] = []
        self._ends: list[Array] = []
        self._held = 0

    def add(self, starts: Array, ends: Array) -> None:
        self._starts.append(starts)
        self._ends.append(ends)
        self._held += starts.size
        if self._held > _MERGE_AT:
            self.merged()

    def merged(self) -> tuple[Array, Array]:
        """Starts and ends, sorted, disjoint, not touching."""
        if not self._starts:
            return _NONE, _NONE
        starts, ends = np.concatenate(self._starts), np.concatenate(self._ends)
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], np.maximum.accumulate(ends[order])
        new = np.concatenate([[True], starts[1:] > ends[:-1]])
        first = np.flatnonzero(new)
        starts, ends = starts[first], ends[np.concatenate([first[1:] - 1, [ends.size - 1]])]
        self._starts, self._ends, self._held = [starts], [ends], starts.size
        return starts, ends

    def size(self) -> int:
        """Distinct bytes."""
        starts, ends = self.merged()
        return int((ends - starts).sum())

    def key(self) -> Any:
        """Equal for equal sets."""
        starts, ends = self.merged()
        return starts.tobytes(), ends.tobytes()
