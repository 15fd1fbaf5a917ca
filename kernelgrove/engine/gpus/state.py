"""The state of a GPU while something is timed on it: clocks, temperature, throttling, who else is on it.

Read through NVML, which comes with the driver; nothing is ever set. Standard library only.
"""

from __future__ import annotations

import ctypes
from typing import Any

#: nvmlClockType_t, and the bits of nvmlClocksEventReasons that slow a GPU down (NVML API reference; "idle" is bit 0,
#: clocks set by an application bit 1).
_SM, _MEMORY, _TEMPERATURE = 1, 2, 0
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class State:
    """One GPU by its PCI bus id (``0000:01:00.0``). Where NVML is missing or refuses, what it would say is left out."""

    def __init__(self, bus_id: str) -> None:
        self._handle: ctypes.c_void_p | None = None
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        handle = ctypes.c_void_p()
        if self._nvml.nvmlInit_v2() == 0:
            found = self._nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id.encode(), ctypes.byref(handle))
            self._handle = handle if found == 0 else None

    def read(self) -> dict[str, Any]:
        """``sm_mhz memory_mhz temperature_c power_w throttled processes``, as far as they are known.

        *processes* counts compute processes on the GPU, this evaluator's own among them.
        """
        if self._handle is None:
            return {}
        clocks = {"sm_mhz": _SM, "memory_mhz": _MEMORY}
        found = {name: self._number("nvmlDeviceGetClockInfo", kind) for name, kind in clocks.items()}
        found["temperature_c"] = self._number("nvmlDeviceGetTemperature", _TEMPERATURE)
        power = self._number("nvmlDeviceGetPowerUsage")
        found["power_w"] = None if power is None else round(power / 1000)
        found["processes"] = self._processes()
        state: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
        reasons = ctypes.c_ulonglong()
        if self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle, ctypes.byref(reasons)) == 0:
            state["throttled"] = [words for bit, words in _REASONS.items() if reasons.value & bit]
        return state

    def _number(self, name: str, *arguments: int) -> int | None:
        value = ctypes.c_uint()
        status = getattr(self._nvml, name)(self._handle, *arguments, ctypes.byref(value))
        return value.value if status == 0 else None

    def _processes(self) -> int | None:
        count = ctypes.c_uint(64)
        rows = (_Process * 64)()
        status = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle, ctypes.byref(count), rows)
        return count.value if status == 0 else None
