"""Stand-ins for ``torch.cuda``: one device, one stream, events by the wall clock, memory figures of the target."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch

from .errors import NeedsGpu

UNITS = 1 << 30


class Stream:
    """A stream on which everything has already happened."""

    cuda_stream = 0
    stream_id = 0
    device_index = 0
    priority = 0

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = torch.device("cuda", 0)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing was switched."""

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        return True

    def wait_stream(self, stream: Any) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: Any) -> None:
        """Nothing to wait for."""

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event(enable_timing=True)
        event.record(self)
        return event


class Event:
    """An event that keeps the wall clock's time."""

    cuda_event = 0

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.enable_timing = enable_timing
        self._at: float | None = None

    def record(self, stream: Any = None) -> None:
        self._at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to ``end``. Raises as CUDA does where one was not recorded or not timed."""
        if not (self.enable_timing and end.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._at is None or end._at is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (end._at - self._at) * 1e3

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def wait(self, stream: Any = None) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        return True


class DeviceGuard(contextlib.ContextDecorator):
    """``with torch.cuda.device(0):``. Raises for a device that is not there."""

    def __init__(self, device: Any = None) -> None:
        self.idx = check_index(device)
        self.prev_idx = 0

    def __enter__(self) -> DeviceGuard:
        return self

    def __exit__(self, *_: Any) -> None:
        """There is one device."""


def check_index(device: Any) -> int:
    """The index that a CUDA device argument means. Raises ``RuntimeError`` as CUDA does for one past the last."""
    if isinstance(device, torch.Tensor):
        return 0
    index = device if isinstance(device, int) else torch.device(device or "cuda").index
    if index is not None and index > 0:
        raise RuntimeError(f"CUDA error: invalid device ordinal (cuda:{index}: there is one device)")
    return 0


class DeviceProperties(SimpleNamespace):
    """``torch.cuda.get_device_properties``."""


def device_properties(facts: Mapping[str, Any]) -> DeviceProperties:
    major, minor = (int(part) for part in facts["capability"])
    shared = int(facts.get("shared_kb_per_block", 48)) * 1024
    per_sm = int(facts.get("shared_kb_per_sm", facts.get("shared_kb_per_block", 48))) * 1024
    return DeviceProperties(
        name=str((facts.get("matches") or [facts.get("name", "GPU")])[0]),
        major=major,
        minor=minor,
        total_memory=int(float(facts.get("memory_gb", 16)) * UNITS),
        multi_processor_count=int(facts.get("sms", 108)),
        max_threads_per_multi_processor=int(facts.get("max_threads_per_sm", 2048)),
        max_threads_per_block=1024,
        regs_per_multiprocessor=int(facts.get("registers_per_sm", 65536)),
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=shared,
        shared_memory_per_multiprocessor=per_sm,
        L2_cache_size=int(float(facts.get("l2_mb", 40)) * (1 << 20)),
        clock_rate=int(float(facts.get("boost_clock_ghz", facts.get("clock_ghz", 1.4))) * 1e6),
        warp_size=32,
        is_integrated=0,
        is_multi_gpu_board=0,
        uuid="00000000-0000-0000-0000-000000000000",
        gcnArchName="",
    )


class _NoGraph:
    """CUDA graphs replay work without Python, which nothing here can."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NeedsGpu(
            "CUDA graphs cannot be captured without a GPU: launch the kernels directly, or judge this candidate on one"
        )


def _always(answer: Any) -> Any:
    """A new function each time: torch's compiler refuses one object under two names."""
    return lambda *_, **__: answer


def _same() -> Any:
    """A new context manager that changes nothing."""

    @contextlib.contextmanager
    def same(*_: Any, **__: Any) -> Iterator[None]:
        yield

    return same


def namespace(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into ``torch.cuda``, by name."""
    properties = device_properties(facts)
    memory = properties.total_memory
    stream = Stream()

    def of_device(value: Any) -> Any:
        def answer(device: Any = None) -> Any:
            check_index(device)
            return value

        return answer

    made: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: check_index(device) and None,
        "device": DeviceGuard,
        "device_of": type("device_of", (DeviceGuard,), {}),
        "Stream": Stream,
        "ExternalStream": type("ExternalStream", (Stream,), {}),
        "Event": Event,
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "stream": _same(),
        "StreamContext": _same(),
        "get_device_properties": of_device(properties),
        "get_device_name": of_device(properties.name),
        "get_device_capability": of_device((properties.major, properties.minor)),
        "get_arch_list": lambda: [str(facts.get("arch", f"sm_{properties.major}{properties.minor}"))],
        "mem_get_info": of_device((memory, memory)),
        "is_bf16_supported": lambda including_emulation=True: properties.major >= 8 or including_emulation,
        "memory_stats": lambda device=None: {},
        "memory_summary": lambda device=None, abbreviated=False: "",
        "initial_seed": torch.initial_seed,
        "get_rng_state": lambda device="cuda": torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "CUDAGraph": _NoGraph,
        "graph": type("graph", (_NoGraph,), {}),
        "make_graphed_callables": type("make_graphed_callables", (_NoGraph,), {}),
        "can_device_access_peer": lambda a, b: False,
    }
    for name in (
        "synchronize init _lazy_init _lazy_call empty_cache ipc_collect set_stream manual_seed manual_seed_all seed "
        "seed_all reset_peak_memory_stats reset_max_memory_allocated reset_accumulated_memory_stats "
        "set_per_process_memory_fraction set_rng_state set_rng_state_all"
    ).split():
        made[name] = _always(None)
    for name in (
        "memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached max_memory_cached "
        "utilization temperature power_draw clock_rate"
    ).split():
        made[name] = _always(0)
    return made


def tools() -> SimpleNamespace:
    """``torch.cuda.nvtx``."""
    return SimpleNamespace(
        range_push=_always(0),
        range_pop=_always(0),
        range_start=_always(0),
        range_end=_always(None),
        mark=_always(None),
        range=_same(),
    )
