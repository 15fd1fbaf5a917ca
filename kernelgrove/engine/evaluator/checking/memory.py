"""The device's memory as the judge sees it: what is free, and what its own PyTorch keeps of tensors that are gone."""

from __future__ import annotations

import torch


def available(device: int) -> int:
    """Bytes of *device* that a large tensor may take: free ones, and those that PyTorch would give back for it."""
    return int(torch.cuda.mem_get_info(device)[0]) + kept(device)


def kept(device: int) -> int:
    """Bytes that PyTorch keeps of freed tensors and can give back: not what lies between tensors that live."""
    told = torch.cuda.memory_stats(device)
    reserved, taken, between = (
        int(told.get(f"{name}_bytes.all.current", 0)) for name in ("reserved", "allocated", "inactive_split")
    )
    return reserved - taken - between
