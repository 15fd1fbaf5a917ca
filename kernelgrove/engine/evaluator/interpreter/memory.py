"""The memory that a launch may touch: one region for each tensor argument, and the check of every pointer against it.

A pointer remembers the argument that it was made from (``handle.of``), so running off the end of one tensor into its
neighbour is caught. A region spans the whole storage, since a view's kernel may well step back.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import OutOfBounds
from .formats import Array


@dataclass
class Region:
    """The storage behind one argument, in bytes: ``[low, high)``; ``start`` is the tensor's first element."""

    name: str
    low: int
    high: int
    start: int
    count: int  # elements of the tensor
    storage: Any  # what tells storages apart, and keeps this one alive
    written: bool = False
    views: dict[Any, Array] = field(default_factory=dict)

    def view(self, dtype: Any) -> Array:
        """The storage as an array of ``dtype``, sharing its memory."""
        found = self.views.get(dtype)
        if found is None:
            size = (self.high - self.low) // dtype.itemsize
            memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(self.low)
            found = self.views[dtype] = np.frombuffer(memory, dtype=dtype)
        return found


class Bounds:
    """Checks addresses against regions; ``kernel`` and ``program`` are for its messages."""

    def __init__(self, kernel: str, regions: list[Region]) -> None:
        self.kernel = kernel
        self.regions = regions
        self.program = (0, 0, 0)

    def find(self, action: str, pointers: Any, mask: Array | None, size: int) -> tuple[Region | None, bool]:
        """The region that holds every address asked for, and whether the masked-off ones lie inside too.

        ``None`` where nothing is asked for or several regions are. Raises ``OutOfBounds``.
        """
        addresses: Array = pointers.data
        if addresses.size == 0:
            return None, True
        low, high = int(addresses.min()), int(addresses.max()) + size
        origin: Region | None = getattr(pointers, "of", None)
        candidates = self.regions if origin is None else (origin,)
        for region in candidates:
            if region.low <= low and high <= region.high:
                return region, True
        if mask is not None:
            addresses = (
                addresses[mask] if mask.shape == addresses.shape else addresses[np.broadcast_to(mask, addresses.shape)]
            )
            if addresses.size == 0:
                return None, False
            low, high = int(addresses.min()), int(addresses.max()) + size
            for region in candidates:
                if region.low <= low and high <= region.high:
                    return region, False
        outside = np.ones(addresses.shape, dtype=bool)
        for region in candidates:
            if region.high - region.low >= size:
                outside &= (addresses < np.uint64(region.low)) | (addresses > np.uint64(region.high - size))
        if outside.any():
            raise OutOfBounds(self.message(action, addresses[outside], origin, size))
        return None, False

    def message(self, action: str, addresses: Array, origin: Region | None, size: int) -> str:
        """``out-of-bounds store in softmax_rows, program (63, 0, 0): 24 elements up to offset 64023 of y_ptr, …``"""
        where = f"out-of-bounds {action} in {self.kernel}, program {self.program}"
        many = "1 element" if addresses.size == 1 else f"{addresses.size} elements"
        if not self.regions:
            return f"{where}: {many}, but the kernel was given no tensor"
        low, high = int(addresses.min()), int(addresses.max())
        if low >= 1 << 63:
            low -= 1 << 64
        nearest = origin or min(self.regions, key=lambda r: min(abs(r.low - low), abs(low - r.high)))
        first, last = (low - nearest.start) // size, (high - nearest.start) // size
        if low < nearest.low:
            return f"{where}: {many} from offset {first} of {nearest.name}, before its start"
        return f"{where}: {many} up to offset {last} of {nearest.name}, which has {nearest.count}"


class RealMemory(Bounds):
    """Loads and stores on the tensors themselves, through NumPy views of their storages."""

    def load(self, pointers: Any, mask: Array | None, other: Array | None, dtype: Any) -> Array:
        """Elements at ``pointers`` where ``mask``; elsewhere ``other``, or zero."""
        size = dtype.itemsize
        region, inside = self.find("load", pointers, mask, size)
        addresses: Array = pointers.data
        if mask is not None:
            mask = np.broadcast_to(mask, addresses.shape)
        if region is None:
            return self._slow_load(addresses, mask, other, dtype)
        offsets = addresses - np.uint64(region.low)
        if mask is not None and not inside:
            offsets = np.where(mask, offsets, np.uint64(0))
        index = self._index(offsets, size)
        if index is None:
            return self._slow_load(addresses, mask, other, dtype)
        found = region.view(dtype)[index]
        if mask is None or (other is None and mask.all()):
            return found
        return np.where(mask, found, np.zeros((), dtype) if other is None else other.astype(dtype, copy=False))

    def store(self, pointers: Any, value: Array, mask: Array | None, dtype: Any) -> None:
        """Write ``value`` at ``pointers`` where ``mask``."""
        size = dtype.itemsize
        region, _ = self.find("store", pointers, mask, size)
        addresses: Array = pointers.data
        value = np.broadcast_to(value.astype(dtype, copy=False), addresses.shape)
        if mask is not None:
            mask = np.broadcast_to(mask, addresses.shape)
            if not mask.all():
                addresses, value = addresses[mask], value[mask]
        if addresses.size == 0:
            return
        index = None if region is None else self._index(addresses - np.uint64(region.low), size)
        if region is None or index is None:
            self._slow_store(addresses, value, dtype)
            return
        region.view(dtype)[index] = value
        region.written = True

    @staticmethod
    def _index(offsets: Array, size: int) -> Array | None:
        """Element numbers of byte offsets; ``None`` where some are not a multiple of the element's size."""
        if size == 1:
            return offsets
        if (offsets & np.uint64(size - 1)).any():
            return None
        return offsets >> np.uint64(size.bit_length() - 1)

    @staticmethod
    def _slow_load(addresses: Array, mask: Array | None, other: Array | None, dtype: Any) -> Array:
        from .internals import raw_load

        mask = np.ones(addresses.shape, dtype=bool) if mask is None else np.ascontiguousarray(mask)
        filler = np.zeros((), dtype) if other is None else other.astype(dtype, copy=False)
        loaded: Array = raw_load(
            np.ascontiguousarray(addresses), mask, np.ascontiguousarray(np.broadcast_to(filler, addresses.shape)), dtype
        )
        return loaded

    def _slow_store(self, addresses: Array, value: Array, dtype: Any) -> None:
        from .internals import raw_store

        raw_store(np.ascontiguousarray(addresses), np.ascontiguousarray(value), np.ones(addresses.shape, dtype=bool))
        for region in self.regions:
            if ((addresses >= np.uint64(region.low)) & (addresses < np.uint64(region.high))).any():
                region.written = True
