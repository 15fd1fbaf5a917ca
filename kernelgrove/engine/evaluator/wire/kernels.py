"""Compiled kernels that a judge hands to a worker: neither has to compile them, and a worker needs no Triton for them.
Standard library and torch only."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

from .driver import call, driver

#: Triton's own parameters come after a kernel's: two pointers to scratch memory, of which none is needed here.
_SCRATCH = (ctypes.c_uint64(0), ctypes.c_uint64(0))


@dataclass(frozen=True)
class Image:
    """A kernel compiled for one architecture: *code* is a cubin, *threads* are those of a block, *shared* its bytes."""

    name: str
    threads: int
    shared: int
    code: bytes

    def to_json(self) -> dict[str, Any]:
        """All but the code."""
        return {"name": self.name, "threads": self.threads, "shared": self.shared}


@functools.cache
def loaded(image: Image) -> Kernel:
    """*image*'s kernel, once a process: it stays loaded. Raises CudaError."""
    return Kernel(image)


class Kernel:
    """*image* in this process's CUDA context, for as long as that lives."""

    def __init__(self, image: Image) -> None:
        """Raises CudaError."""
        self._image = image
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        call(driver().cuModuleLoadData, ctypes.byref(module), image.code)
        call(driver().cuModuleGetFunction, ctypes.byref(self._function), module, image.name.encode())

    def launch(self, blocks: int, stream: int, *arguments: ctypes.c_uint64 | ctypes.c_int64 | ctypes.c_int32) -> None:
        """Raises CudaError."""
        values = (*arguments, *_SCRATCH)
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        of_grid, of_block = (blocks, 1, 1), (self._image.threads, 1, 1)
        call(driver().cuLaunchKernel, self._function, *of_grid, *of_block, self._image.shared, stream, pointers, None)
