"""What the judge's PyTorch keeps of the device's memory is little, and known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kernelgrove.engine.evaluator.timing.memory import memory_share, trim

GIB = 1 << 30


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU of 128 GiB, as PyTorch tells of it."""
    told = SimpleNamespace(free=40 * GIB, reserved=30 * GIB, allocated=10 * GIB, emptied=0)

    def empty() -> None:
        told.emptied += 1

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (told.free, 128 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: told.reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: told.allocated)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=128 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    return told


def test_a_share_counts_what_is_kept_of_freed_tensors(device: SimpleNamespace):
    assert memory_share(4, 0) == 15 * GIB


@pytest.mark.parametrize(("kept", "emptied"), [(20, 1), (9, 1), (8, 0), (0, 0)])
def test_much_is_given_back(device: SimpleNamespace, kept: int, emptied: int):
    device.allocated = device.reserved - kept * GIB
    trim(0)
    assert device.emptied == emptied
