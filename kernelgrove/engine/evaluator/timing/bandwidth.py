"""Is the device's memory as fast as it can be? What is freed, the driver clears afterwards, with a copy engine: kernels
do not wait for that, but whatever moves memory takes an eighth longer meanwhile (docs/benchmarks/evaluator-h200.md)."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable

import torch

#: So much is copied at once, more than an L2 holds; so often, after a first time that waits for a change of context.
_BYTES, _COPIES = 128 << 20, 5
#: Copies differ by 2 % among each other; while 12 GiB are cleared, they take 12 % longer.
_TOLERATED = 1.05
#: In which all memory of a large GPU is cleared.
_LIMIT_S, _PAUSE_S = 0.5, 0.002


class Bandwidth:
    """What *look* tells is how long a copy takes now, in ms; it is held against the least that it ever told."""

    def __init__(self, look: Callable[[], float]) -> None:
        self._look = look
        self._least_ms = math.inf

    def settle(self, limit_s: float = _LIMIT_S) -> bool:
        """Wait until a copy takes no longer than it should. False if it still does after *limit_s* seconds: it then is
        what copies take from now on. For who is alone."""
        deadline = time.monotonic() + limit_s
        while True:
            found_ms = self._look()
            self._least_ms = min(self._least_ms, found_ms)
            if found_ms <= _TOLERATED * self._least_ms:
                return True
            if time.monotonic() > deadline:
                self._least_ms = found_ms
                return False
            time.sleep(_PAUSE_S)


def copying(device: str) -> Callable[[], float]:
    """What tells how long a copy of 128 MiB takes on *device* just now, in ms: a median. It holds twice as much."""
    source, target = (torch.zeros(_BYTES // 4, dtype=torch.int32, device=device) for _ in range(2))

    def look() -> float:
        with torch.cuda.device(source.device):
            events = [torch.cuda.Event(enable_timing=True) for _ in range(_COPIES + 2)]
            for event in events:
                event.record()
                torch.add(source, 1, out=target)  # a kernel: the driver's own copies may run on a copy engine
            torch.cuda.synchronize()
        return float(statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(events[1:])))

    return look
