"""Is the GPU idle? Asked when whoever could use it has been stopped: a kernel that was queued before runs on."""

from __future__ import annotations

import time

import torch

#: A kernel of the judge's takes some 50 µs with its launch on an idle GPU. Beside another process's it waits for its
#: share of the time, which the GPU deals out in milliseconds.
_BUSY_S = 0.001
_PROBES = 5


def is_idle(device: str) -> bool:
    """Whether none of a few small kernels had to wait for another process's."""
    probe = torch.zeros(1024, device=device)
    slowest = 0.0
    for number in range(_PROBES + 1):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        probe.add_(1.0)
        torch.cuda.synchronize(device)
        if number:  # the first waits for a change of context
            slowest = max(slowest, time.perf_counter() - started)
    return slowest < _BUSY_S


def wait_idle(device: str, limit_s: float) -> bool:
    """Wait until the GPU is idle; False if it is not within *limit_s* seconds."""
    deadline = time.monotonic() + limit_s
    while not is_idle(device):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
