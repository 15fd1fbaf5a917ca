"""Triton kernels written for CUDA, run for real on a CPU, and counted at full size on stand-in memory.

Two kinds of process use this package. In both, ``devices.pretend(facts, device)`` makes what a candidate assumes about
CUDA hold. An *interpreting* nursery is started with ``TRITON_INTERPRET=1`` and also calls ``install()`` once before it
forks workers; a *compiling* nursery uses ``devices`` alone, with the stand-in device ``"meta"``.

Counting at full size is ``counting.counting``. Nothing is imported until it is asked for, so that ``errors`` costs
neither torch nor triton.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "install": "adapter",
    "pretend": "devices",
    "adopt": "labels",
    "logical_device": "labels",
    "real_device": "labels",
    "watch": "watching",
    "Watch": "watching",
    "CountingLimit": "errors",
    "KernelError": "errors",
    "NeedsGpu": "errors",
    "NeedsValues": "errors",
    "OutOfBounds": "errors",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOME[name]}")
    value = getattr(module, name)
    globals()[name] = value  # a submodule of the same name must not shadow the function
    return value
