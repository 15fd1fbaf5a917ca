"""Memory that a judge shares with one worker: weights, inputs and output slots. Standard library and torch only.

The judge owns it and keeps masters of everything that matters elsewhere. On ``cpu`` an arena is a memfd; on a GPU
it is device memory made with ``cuMemCreate`` and exported as a file descriptor, so that the right to map it is the
descriptor itself (``cudaIpc`` handles are names that any process of the user could open).
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .driver import call, driver, enter

ALIGNMENT = 512  # bytes; what PyTorch's CUDA allocator gives, so that kernels specialise alike


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies: *offset* and *storage_bytes* in the arena, then its shape, strides and dtype."""

    offset: int
    storage_bytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str  # "float32"

    def to_json(self) -> list[Any]:
        return [self.offset, self.storage_bytes, list(self.shape), list(self.strides), self.dtype]

    def moved(self, by: int) -> Slot:
        """The same tensor *by* bytes further on."""
        return replace(self, offset=self.offset + by)

    @staticmethod
    def from_json(data: Sequence[Any]) -> Slot:
        offset, size, shape, strides, dtype = data
        return Slot(offset, size, tuple(shape), tuple(strides), dtype)


@dataclass(frozen=True)
class Spec:
    """Shape, strides and dtype of a tensor to be laid out."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(tensor: torch.Tensor) -> Spec:
        """As *tensor* is; one whose elements share memory (an expanded one) gets memory for each."""
        shape, strides = tuple(tensor.shape), tuple(tensor.stride())
        if overlaps(shape, strides):
            strides = tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))
        return Spec(shape, strides, str(tensor.dtype).removeprefix("torch."))

    @property
    def storage_bytes(self) -> int:
        if 0 in self.shape:
            return 0
        extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return extent * torch_dtype(self.dtype).itemsize


def overlaps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two elements may share memory: unless each stride is past all that smaller ones reach."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1):
        if stride <= reach:
            return 0 not in shape
        reach += (size - 1) * stride
    return False


def distinct(tensor: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    """A view of *tensor* that has each element of an expanded one (of *like*, where given) once: else such a tensor
    cannot be written."""
    like = tensor if like is None else like
    for dim, (size, stride) in enumerate(zip(like.shape, like.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def torch_dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"no dtype {name!r}")
    return found


def lay_out(specs: Sequence[Spec], start: int = 0) -> tuple[list[Slot], int]:
    """Slots for *specs* one after another from byte *start*, and the first free byte after them."""
    slots = []
    for spec in specs:
        start = -(-start // ALIGNMENT) * ALIGNMENT
        size = spec.storage_bytes
        slots.append(Slot(start, size, spec.shape, spec.strides, spec.dtype))
        start += size
    return slots, start


class Arena:
    """A block of shared memory as one flat byte tensor, ``bytes``; ``view`` gives the tensor in a slot."""

    def __init__(self, flat: torch.Tensor, fd: int, size: int) -> None:
        self.bytes = flat
        self.fd = fd
        self.size = size

    def view(self, slot: Slot) -> torch.Tensor:
        dtype = torch_dtype(slot.dtype)
        storage = self.bytes[slot.offset : slot.offset + slot.storage_bytes].view(dtype)
        return torch.as_strided(storage, slot.shape, slot.strides)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class CpuArena(Arena):
    def __init__(self, fd: int, size: int) -> None:
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        super().__init__(torch.frombuffer(self._map, dtype=torch.uint8), fd, size)

    @staticmethod
    def create(size: int) -> CpuArena:
        size = max(size, mmap.PAGESIZE)
        fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        # A worker that shrank it would have the judge killed by SIGBUS at its next look.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return CpuArena(fd, size)


# ------------------------------------------------------------------------------------------------- CUDA


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _AllocFlags(ctypes.Structure):
    _fields_ = (
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    )


class _AllocationProp(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("requested_handle_types", ctypes.c_int),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("flags", _AllocFlags),
    )


class _AccessDesc(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


_PINNED, _DEVICE, _POSIX_FD, _READ_WRITE = 1, 1, 1, 3  # CUmemAllocationType, …LocationType, …HandleType, access


class _CudaMemory:
    """An object with ``__cuda_array_interface__``, which torch wraps without copying."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__: Mapping[str, Any] = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


class CudaArena(Arena):
    """Device memory mapped in this process; ``fd`` is its exported handle (judge) or -1 (worker)."""

    def __init__(self, device: int, handle: int, size: int, fd: int) -> None:
        self._cuda = driver()
        self._handle = handle
        address = ctypes.c_uint64()
        call(self._cuda.cuMemAddressReserve, ctypes.byref(address), size, 0, 0, 0)
        self._address = address.value
        call(self._cuda.cuMemMap, self._address, size, 0, handle, 0)
        access = _AccessDesc(_Location(_DEVICE, device), _READ_WRITE)
        call(self._cuda.cuMemSetAccess, self._address, size, ctypes.byref(access), 1)
        memory = _CudaMemory(self._address, size)
        super().__init__(torch.as_tensor(memory, device=f"cuda:{device}"), fd, size)

    @staticmethod
    def create(size: int, device: int) -> CudaArena:
        """Allocate at least *size* bytes on *device*. Raises CudaError (2 is: out of memory)."""
        cuda = driver()
        enter(device)
        prop = _AllocationProp(_PINNED, _POSIX_FD, _Location(_DEVICE, device), None, _AllocFlags())
        granularity = ctypes.c_size_t()
        call(cuda.cuMemGetAllocationGranularity, ctypes.byref(granularity), ctypes.byref(prop), 0)
        size = -(-max(size, 1) // granularity.value) * granularity.value
        handle = ctypes.c_uint64()
        if cuda.cuMemCreate(ctypes.byref(handle), size, ctypes.byref(prop), 0):
            torch.cuda.empty_cache()  # what PyTorch keeps of freed tensors is nobody's
            call(cuda.cuMemCreate, ctypes.byref(handle), size, ctypes.byref(prop), 0)
        fd = ctypes.c_int(-1)
        call(cuda.cuMemExportToShareableHandle, ctypes.byref(fd), handle, _POSIX_FD, 0)
        made = CudaArena(device, handle.value, size, fd.value)
        made.bytes.zero_()  # the driver does not promise that memory of this process comes back clean
        return made

    @staticmethod
    def open(fd: int, size: int, device: int) -> CudaArena:
        """Map in a worker what the judge exported; *fd* is closed."""
        cuda = driver()
        enter(device)
        handle = ctypes.c_uint64()
        call(cuda.cuMemImportFromShareableHandle, ctypes.byref(handle), ctypes.c_void_p(fd), _POSIX_FD)
        os.close(fd)
        return CudaArena(device, handle.value, size, -1)

    @property
    def address(self) -> int:
        """Of its first byte, in this process."""
        return self._address

    def stall(self, stream: int, offset: int, token: int) -> None:
        """Have *stream* wait until the 32-bit word at *offset* is at least *token*: what is queued after this runs
        when somebody who shares the arena writes it. Raises CudaError."""
        call(driver().cuStreamWaitValue32_v2, stream, self._address + offset, token, 0)

    def close(self) -> None:
        if self._address:
            torch.cuda.synchronize()
            self.bytes = torch.empty(0)
            self._cuda.cuMemUnmap(ctypes.c_uint64(self._address), ctypes.c_size_t(self.size))
            self._cuda.cuMemAddressFree(ctypes.c_uint64(self._address), ctypes.c_size_t(self.size))
            self._cuda.cuMemRelease(ctypes.c_uint64(self._handle))
            self._address = 0
        super().close()
