"""Timed calls meet both orders in which a GPU hands out blocks, whatever number of launches each takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.gpu


def first_blocks(between: Callable[[], None]) -> Counter[int]:
    """Where the first block of 64 launches ran, each followed by a copy: two launches a call, as of most kernels."""
    import torch
    from sm_order import where

    seen = [torch.empty(132, dtype=torch.int32, device="cuda") for _ in range(64)]
    copy = torch.empty_like(seen[0])
    where[(132,)](copy)
    torch.cuda.synchronize()
    for sm in seen:
        between()
        where[(132,)](sm)
        copy.copy_(sm)
    return Counter(int(sm[0]) for sm in seen)


def test_calls_of_two_launches_meet_both_orders():
    import torch

    from kernelgrove.engine.evaluator.parity import Parity

    alone = first_blocks(lambda: None)
    if len(alone) > 1:
        pytest.skip(f"{torch.cuda.get_device_name()} hands out blocks otherwise: {alone}")
    found = first_blocks(Parity().toss)
    assert len(found) == 2 and min(found.values()) >= 12, found
