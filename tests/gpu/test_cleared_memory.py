"""What the driver does with freed memory slows down whoever is timed; it is waited for."""

from __future__ import annotations

import pytest
import torch

from kernelgrove.engine.evaluator.timing.bandwidth import Bandwidth, copying
from kernelgrove.engine.evaluator.wire.arena import CudaArena

pytestmark = pytest.mark.gpu

GIB = 1 << 30


def test_freed_memory_is_cleared_beside_what_runs_and_that_is_waited_for():
    look = copying("cuda:0")
    made = Bandwidth(look)
    for _ in range(20):
        made.settle()
    usual = min(look() for _ in range(20))
    free = torch.cuda.mem_get_info()[0]
    CudaArena.create(min(32 * GIB, free // 2), 0).close()
    at_once = look()
    assert made.settle()
    assert look() < 1.05 * usual
    print(f"a copy takes {usual:.4f} ms, {at_once:.4f} right after {min(32 * GIB, free // 2) >> 30} GiB were freed")
    assert at_once > 1.05 * usual, "nothing to wait for: the driver no longer does this, or elsewhere"
