"""What the judge's PyTorch keeps of the device's memory is little, and known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.timing.memory import memory_share, trim
from kernelgrove.engine.evaluator.timing.pending import Held

GIB = 1 << 30


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU of 128 GiB, as PyTorch tells of it."""
    told = SimpleNamespace(free=40 * GIB, reserved=32 * GIB, allocated=10 * GIB, between=2 * GIB, emptied=0)

    def empty() -> None:
        told.emptied += 1

    def stats(device: int) -> dict[str, int]:
        told_of = {"reserved": told.reserved, "allocated": told.allocated, "inactive_split": told.between}
        return {f"{name}_bytes.all.current": size for name, size in told_of.items()}

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (told.free, 128 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_stats", stats)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=128 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    return told


def test_a_share_counts_what_is_kept_of_freed_tensors_but_for_what_lies_between_others(device: SimpleNamespace):
    assert memory_share(4, 0) == 15 * GIB


def test_what_is_needed_besides_is_nobodys_share(device: SimpleNamespace):
    held = Held(8 * GIB)
    assert held.take(3 * GIB) and held.left == 5 * GIB
    assert memory_share(5, 0, held.left) == 11 * GIB
    assert memory_share(5, 0, 100 * GIB) == 0


def test_a_judges_pytorch_cuts_nothing_large_up():
    """What a test can tell without a GPU: the setting reaches the judge, and no candidate's nursery."""
    with Pool("cpu", parallel=1) as pool:
        pool.device()
        assert pool._process is not None
        told = Path(f"/proc/{pool._process.pid}/environ").read_bytes().split(b"\0")
        assert b"PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:1024" in told
        tasks = Path(f"/proc/{pool._process.pid}/task").iterdir()
        nurseries = [child for task in tasks for child in (task / "children").read_text().split()]
        assert nurseries
        for nursery in nurseries:
            assert b"PYTORCH_CUDA_ALLOC_CONF" not in Path(f"/proc/{nursery}/environ").read_bytes()


@pytest.mark.parametrize(("kept", "emptied"), [(20, 1), (9, 1), (8, 0), (0, 0)])
def test_much_is_given_back(device: SimpleNamespace, kept: int, emptied: int):
    device.allocated = device.reserved - device.between - kept * GIB
    trim(0)
    assert device.emptied == emptied
