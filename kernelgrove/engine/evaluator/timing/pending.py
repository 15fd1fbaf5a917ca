"""Comparisons with the reference that wait until nobody is timed: whoever has the GPU to himself has others wait."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Held:
    """Bytes of a device's memory that comparisons of all candidates which wait hold together: *most* at most."""

    most: int
    _bytes: int = 0
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def take(self, size: int) -> bool:
        """Whether there is room for *size* more; then it is taken."""
        with self._changing:
            fits = self._bytes + size <= self.most
            if fits:
                self._bytes += size
        return fits

    @property
    def left(self) -> int:
        """Bytes that there still is room for."""
        with self._changing:
            return self.most - self._bytes

    def free(self, sizes: list[int]) -> None:
        size = sum(sizes)
        sizes.clear()
        with self._changing:  # nothing is called inside: a collection there could come here again
            self._bytes -= size


class Pending:
    """Comparisons of one candidate's timed calls. Their operands are copies of the judge's own."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._compare: list[Callable[[], None]] = []
        self._sizes: list[int] = []
        self.waits = True  # whether any may wait
        weakref.finalize(self, held.free, self._sizes)  # whoever is refused meanwhile is compared no further

    @property
    def left(self) -> int:
        """Bytes that may be held besides what is."""
        return self._held.left if self.waits else 0

    def add(self, compare: Callable[[], None], size: int) -> None:
        """*size*: bytes of the copies that *compare* holds. Where there is no room for them, it is done at once."""
        if self.waits and self._held.take(size):
            self._sizes.append(size)
            self._compare.append(compare)
        else:
            compare()

    def drop(self) -> None:
        """What was timed so far counts for nothing."""
        self._compare.clear()
        self._held.free(self._sizes)

    def settle(self) -> None:
        """Raises Wrong, Rejected."""
        while self._compare:
            self._compare.pop(0)()
            self._held.free([self._sizes.pop(0)])
