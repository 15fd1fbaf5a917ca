"""Between timed calls: a launch more, or none, by the toss of a coin, so that calls are timed in both of two states.

A GPU hands out the blocks of one launch and of the next in two orders by turns (H200: the first block goes to SM 128, or
to SM 124), and the same kernel takes 35.5 µs in one and 36.2 µs in the other. A loop of calls that each take an even
number of launches, as one kernel and a copy of its output do, would meet one of the two alone, and which one would be
chance: 2 % from process to process (docs/benchmarks/evaluator-h200.md).
"""

from __future__ import annotations

import random

import torch


class Parity:
    """On the current device, and the current stream at each change."""

    def __init__(self) -> None:
        self._word = torch.zeros(1, dtype=torch.int32, device="cuda")  # which CUDA makes ready at first use
        self._coin = random.Random()  # its own: a candidate seeds the common one

    def toss(self) -> None:
        """Before a timed call."""
        if self._coin.getrandbits(1):
            self._word.zero_()
