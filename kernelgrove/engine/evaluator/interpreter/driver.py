"""A Triton driver that answers for the target and has no device behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch


def properties(facts: Mapping[str, Any]) -> dict[str, int]:
    """What ``driver.active.utils.get_device_properties`` says on the device; clocks in kHz, sizes in bytes."""
    shared = int(facts.get("shared_kb_per_block", 48)) * 1024
    clock = float(facts.get("boost_clock_ghz", facts.get("clock_ghz", 1.4)))
    return {
        "max_shared_mem": shared,
        "max_num_regs": int(facts.get("registers_per_sm", 65536)),
        "multiprocessor_count": int(facts.get("sms", 108)),
        "warpSize": 32,
        "sm_clock_rate": int(clock * 1e6),
        "mem_clock_rate": int(float(facts.get("memory_clock_ghz", 1.5)) * 1e6),
        "mem_bus_width": int(facts.get("memory_bus_bits", 4096)),
    }


class StandInDriver:
    """Implements what Triton's runtime, autotuner and ``testing`` ask of an active driver."""

    def __init__(self, facts: Mapping[str, Any], device: torch.device) -> None:
        self.facts = facts
        self.device = device
        self.utils = SimpleNamespace(get_device_properties=lambda index=0: properties(facts))

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        major, minor = self.facts["capability"]
        return GPUTarget("cuda", int(major) * 10 + int(minor), 32)

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        major, minor = self.facts["capability"]
        return int(major), int(minor)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def map_python_to_cpp_type(self, kind: str) -> str:
        from triton.backends.nvidia.driver import ty_to_cpp

        name: str = ty_to_cpp(kind)
        return name

    def get_benchmarker(self) -> Any:
        return bench

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(1, dtype=torch.int32)

    def clear_cache(self, cache: Any) -> None:
        """No cache to clear."""

    def assemble_tensormap_to_arg(self, tensormaps: Any, args: Any) -> Any:
        return args


def bench(
    kernel_call: Any,
    warmup: int = 25,
    rep: int = 100,
    grad_to_none: Any = None,
    quantiles: Sequence[float] | None = None,
    return_mode: str = "mean",
    **_: Any,
) -> Any:
    """Call once and answer 1 ms: there is nothing to time here, and a candidate that times itself must go on."""
    kernel_call()
    if quantiles is not None:
        return [1.0] * len(quantiles) if len(quantiles) > 1 else 1.0
    return [1.0] if return_mode == "all" else 1.0
