"""Where tensors lie in an arena: strides kept, but memory for every element."""

from __future__ import annotations

import pytest
import torch

from kernelgrove.engine.evaluator.wire.arena import Spec, distinct, overlaps


@pytest.mark.parametrize(
    ("shape", "strides", "shared"),
    [
        ((3, 4), (4, 1), False),
        ((3, 4), (1, 3), False),
        ((3, 4), (100, 7), False),
        ((3, 2, 4), (8, 4, 1), False),
        ((1, 3), (0, 1), False),
        ((0, 3), (0, 1), False),
        ((), (), False),
        ((3,), (0,), True),
        ((4, 3), (1, 0), True),
        ((5, 3), (1, 1), True),
        ((3, 2, 4), (8, 3, 1), True),
    ],
)
def test_shared_memory_is_seen(shape: tuple[int, ...], strides: tuple[int, ...], shared: bool):
    assert overlaps(shape, strides) is shared


def test_an_expanded_tensor_gets_memory_for_each_element():
    spec = Spec.of(torch.zeros(4, 1, 2).expand(4, 3, 2))
    assert spec.strides == (6, 2, 1) and spec.storage_bytes == 4 * 3 * 2 * 4
    assert Spec.of(torch.zeros(4, 6).t()).strides == (1, 6)


def test_an_expanded_tensor_can_be_written_through_its_distinct_elements():
    target, value = torch.zeros(4, 1).expand(4, 3), torch.arange(4.0).reshape(4, 1).expand(4, 3).contiguous()
    distinct(target).copy_(distinct(value, target))
    assert torch.equal(target, value)
