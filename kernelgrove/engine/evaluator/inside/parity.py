"""Between timed calls: now and then a launch more, so that calls are timed in both of two states.

The same kernel of 36 µs takes 35.4 or 36.1 µs on an H200, according to whether an even or an odd number of launches
came before it in its process; why, we do not know. A loop of calls that each take an even number, as one kernel and a
copy of its output do, would meet one of the two alone, and which one would be chance: 2 % from worker to worker
(docs/benchmarks/evaluator-h200.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def memset() -> Callable[[], object]:
    """Launches what is as good as nothing, on the current CUDA stream."""
    word = torch.zeros(1, dtype=torch.int32, device="cuda")  # zeros: what a first memset needs is made ready now
    return word.zero_


class Parity:
    """*launch* before every second call of a loop. Where calls take an even number of launches each, half of a loop's
    calls meet either state, and each the other than in the loop before; else half of them do as well."""

    def __init__(self, launch: Callable[[], object]) -> None:
        self._launch = launch
        self._calls = self._launched = 0

    def begin(self) -> None:
        """Before a loop, in which only calls and ``before_call`` launch anything."""
        if self._launched % 2 == 0:
            self._launch()
        self._calls = self._launched = 0

    def before_call(self) -> None:
        if self._calls % 2:
            self._launch()
            self._launched += 1
        self._calls += 1
