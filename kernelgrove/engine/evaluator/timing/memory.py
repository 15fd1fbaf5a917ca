"""How much of the device's memory timing may take, and when it is given back."""

from __future__ import annotations

import torch

from ..checking.memory import kept

#: PyTorch may keep this share of the device's memory for tensors to come.
_KEPT = 16


def l2_bytes(device: int, otherwise: int = 50 << 20) -> int:
    """Of *device*'s L2; *otherwise* where PyTorch does not know."""
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or otherwise


def trim(device: int) -> None:
    """Give back what PyTorch keeps where it is much: candidates need it, and so does whoever comes after. Best done
    as soon as gigabytes are freed: small tensors that come to lie among them, and live longer, would hold them all."""
    if kept(device) > torch.cuda.get_device_properties(device).total_memory // _KEPT:
        torch.cuda.empty_cache()
