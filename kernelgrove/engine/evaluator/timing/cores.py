"""On which processor a host works while the judge's clock sees it: one that is fast now, the same for all."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence

#: What work takes on each of some processors, in ms; None where it cannot be done.
Pace = Callable[[Sequence[int]], Sequence[float | None]]

_MOST = 16  # processors that are looked at at once
#: Times the least that work ever took: another processor may be faster. Mostly 1.0 to 1.3 or 1.7 to 3.1 were seen.
_SLOWER = 1.2


class Cores:
    """A forward that waits for its GPU is timed with its host, and what an empty worker's host takes is subtracted. One
    processor may take three times what another does, for seconds on end: so both work on one that is fast."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._core: int | None = None
        self._least_ms = math.inf  # that the work took anywhere, ever

    def fastest(self) -> int | None:
        """The one from before, as long as it is about as fast as any ever was; else the fastest now, of a few if there
        are many. None where there is no choice."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            return None
        if self._core in allowed and self.is_fast(self._core):
            return self._core
        found = self._look(random.sample(allowed, min(_MOST, len(allowed))))
        self._core = min(found, key=lambda core: found[core])
        if math.isinf(found[self._core]):
            self._core = None
        return self._core

    def is_fast(self, core: int) -> bool:
        """Whether work takes about as long on *core* now as the least that it ever took anywhere."""
        return self._look([core])[core] <= _SLOWER * self._least_ms

    def _look(self, cores: Sequence[int]) -> dict[int, float]:
        """What the work takes on *cores*, in ms; infinite where it cannot be done."""
        paces = self._pace(cores)
        found = {core: math.inf if ms is None else ms for core, ms in zip(cores, paces, strict=True)}
        self._least_ms = min(self._least_ms, *found.values())
        return found
