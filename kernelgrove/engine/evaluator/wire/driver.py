"""The CUDA driver, for what PyTorch does not offer. Standard library and torch only."""

from __future__ import annotations

import ctypes
from typing import Any

import torch


class CudaError(RuntimeError):
    """A driver call failed."""


_LIBRARY: ctypes.CDLL | None = None


def driver() -> ctypes.CDLL:
    global _LIBRARY
    if _LIBRARY is None:
        library = ctypes.CDLL("libcuda.so.1")
        size, handle, pointer, number = ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint
        library.cuMemAddressReserve.argtypes = (pointer, size, size, handle, handle)
        library.cuMemMap.argtypes = (handle, size, size, handle, handle)
        library.cuMemSetAccess.argtypes = (handle, size, pointer, size)
        library.cuMemCreate.argtypes = (pointer, size, pointer, handle)
        library.cuMemExportToShareableHandle.argtypes = (pointer, handle, ctypes.c_int, handle)
        library.cuMemImportFromShareableHandle.argtypes = (pointer, pointer, ctypes.c_int)
        library.cuMemGetAllocationGranularity.argtypes = (pointer, pointer, ctypes.c_int)
        library.cuMemHostRegister_v2.argtypes = (handle, size, number)
        library.cuMemHostGetDevicePointer_v2.argtypes = (pointer, handle, number)
        library.cuMemHostUnregister.argtypes = (handle,)
        library.cuStreamWaitValue32_v2.argtypes = (pointer, handle, ctypes.c_uint32, number)
        library.cuStreamWriteValue32_v2.argtypes = (pointer, handle, ctypes.c_uint32, number)
        library.cuModuleLoadData.argtypes = (pointer, ctypes.c_char_p)
        library.cuModuleGetFunction.argtypes = (pointer, pointer, ctypes.c_char_p)
        library.cuLaunchKernel.argtypes = (pointer, *[number] * 7, pointer, pointer, pointer)
        _LIBRARY = library
    return _LIBRARY


def enter(device: int) -> None:
    """Make the device's primary context (PyTorch's) exist, and current in this thread."""
    torch.cuda.set_device(device)
    torch.empty(1, device=f"cuda:{device}")


def call(function: Any, *arguments: Any) -> None:
    """Raises CudaError."""
    status = function(*arguments)
    if status:
        text = ctypes.c_char_p()
        driver().cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
        raise CudaError(f"{function.__name__} failed with {status}: {(text.value or b'').decode()}")
