"""A page of the host's memory that judge, worker and the worker's stream share: calls that go through one by one.

The judge writes *go* and the key of a call's inputs; the worker's stream, which waits for it, writes what the outputs
are and *done*. No message is sent and no context of the GPU changed meanwhile. Standard library and torch only.
"""

from __future__ import annotations

import ctypes
import platform
import threading

from .arena import CpuArena
from .driver import call, driver
from .structure import FINGERPRINT

#: So many calls at most can be made ready at once, and so many digests say what one call's outputs are.
CALLS, DIGESTS = 24, 1024

_GO, _DONE, _SAID, _KEYS, _DIGESTS, _SIZE = 0, 128, 512, 1024, 4096, 16384  # bytes; go and done have lines of their own
_KEY_STRIDE = 128  # lines of their own: a line that was read may be kept
_DEVICE_MAP = 2  # CU_MEMHOSTREGISTER_DEVICEMAP
#: Whether two stores, or two loads, are seen in the order in which a program makes them.
_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")


class Page:
    """*memory* is a memfd mapped here. Tokens have 32 bits and wrap around: each call's is one more than the last's."""

    def __init__(self, memory: CpuArena) -> None:
        self._memory = memory
        self._at = memory.bytes.data_ptr()
        self._go = ctypes.c_uint32.from_address(self._at + _GO)
        self._done = ctypes.c_uint32.from_address(self._at + _DONE)
        self._device = 0  # its address on the GPU, where it is registered
        self._held = threading.Lock()
        self._held.acquire()

    @staticmethod
    def create() -> Page:
        return Page(CpuArena.create(_SIZE))

    @staticmethod
    def open(fd: int) -> Page:
        """In a worker; *fd* is closed with it."""
        return Page(CpuArena(fd, _SIZE))

    @property
    def fd(self) -> int:
        return self._memory.fd

    # -------------------------------------------------------------------------------------------- the judge's side

    def let(self, number: int, token: int, key: int) -> None:
        """Let call *number* of those that were made ready go: what is masked can be read with *key* (64 bits)."""
        ctypes.c_uint64.from_address(self._at + _KEYS + _KEY_STRIDE * number).value = key
        self._fence()
        self._go.value = token & 0xFFFFFFFF

    def is_done(self, token: int) -> bool:
        """Whether the call with *token*, or a later one, is said to be done."""
        return (self._done.value - token) & 0x80000000 == 0

    def digests(self, count: int) -> bytes:
        """The first *count* digests, of 8 bytes each, as they are now."""
        self._fence()
        return ctypes.string_at(self._at + _DIGESTS, 8 * count)

    def said(self, number: int) -> bytes:
        """The fingerprint of what call *number* gave that is no tensor, as it is now; after ``digests``."""
        return ctypes.string_at(self._at + _SAID + FINGERPRINT * number, FINGERPRINT)

    def _fence(self) -> None:
        """Whatever is stored or loaded after this comes after whatever was before, for the GPU too. Where hosts need
        one, a lock that is let go and taken again is: Python has no other."""
        if not _IN_ORDER:
            self._held.release()
            self._held.acquire()

    # ------------------------------------------------------------------------------------------- the worker's side

    def register(self) -> None:
        """Have the GPU see it. Raises CudaError."""
        found = ctypes.c_uint64()
        call(driver().cuMemHostRegister_v2, self._at, _SIZE, _DEVICE_MAP)
        call(driver().cuMemHostGetDevicePointer_v2, ctypes.byref(found), self._at, 0)
        self._device = found.value

    def wait(self, stream: int, token: int) -> None:
        """What is queued in *stream* after this runs when the call with *token* may go. Raises CudaError."""
        call(driver().cuStreamWaitValue32_v2, stream, self._device + _GO, token & 0xFFFFFFFF, 0)

    def say_done(self, stream: int, token: int) -> None:
        """In *stream*. Raises CudaError."""
        call(driver().cuStreamWriteValue32_v2, stream, self._device + _DONE, token & 0xFFFFFFFF, 0)

    def say(self, number: int, fingerprint: bytes) -> None:
        """Of call *number*, which is not yet said to be done."""
        ctypes.memmove(self._at + _SAID + FINGERPRINT * number, fingerprint, FINGERPRINT)
        self._fence()

    def give_up(self, token: int) -> None:
        """Let nobody wait for calls up to *token*, which will not be made."""
        self._done.value = token & 0xFFFFFFFF

    def key_address(self, number: int) -> int:
        """On the GPU, of call *number*'s key."""
        return self._device + _KEYS + _KEY_STRIDE * number

    @property
    def digests_address(self) -> int:
        """On the GPU."""
        return self._device + _DIGESTS

    def close(self) -> None:
        if self._device:
            call(driver().cuMemHostUnregister, self._at)
            self._device = 0
        self._memory.close()
