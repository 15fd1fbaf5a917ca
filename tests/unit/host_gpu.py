"""In the place of a GPU: kernels that the host runs, streams that do at once what is queued in them, and workers in
processes of their own, whose arenas are the host's memory."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import mmap
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kernelgrove.engine.evaluator.inside import chunks as of_chunks
from kernelgrove.engine.evaluator.inside import turnstile as of_worker
from kernelgrove.engine.evaluator.inside import worker as inside
from kernelgrove.engine.evaluator.sandbox import syscalls
from kernelgrove.engine.evaluator.timing import empties, sealing, seats
from kernelgrove.engine.evaluator.timing.turnstile import Kernels
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.kernels import Image
from kernelgrove.engine.evaluator.wire.page import Page
from kernelgrove.engine.evaluator.wire.protocol import PeerGone, receive_with_fds, send_reply
from kernelgrove.engine.evaluator.workers.handle import Worker

_LOOK_S = 1e-4  # between two looks at what a stream waits for


def tensor_at(address: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    raw: Any = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return torch.from_numpy(np.frombuffer(raw, dtype=np.uint8)).view(dtype)


class HostKernel:
    """In the place of one on a GPU: it takes the same addresses."""

    def __init__(self, image: Image) -> None:
        self.launch = {"mask": self.mask, "digest": self.digest}[image.name]

    def mask(self, blocks: int, stream: int, words: Any, key: Any, quarter: Any, every: Any) -> None:
        memory = tensor_at(words.value, 4 * quarter.value, torch.int32)[:: every.value]
        noise = torch.Generator().manual_seed(int(tensor_at(key.value, 1, torch.int64)) >> 1)
        memory ^= torch.randint(-(2**31), 2**31 - 1, memory.shape, generator=noise, dtype=torch.int32)

    def digest(self, blocks: int, stream: int, words: Any, key: Any, into: Any, count: Any, steps: Any) -> None:
        told = [tensor_at(key.value, 1, torch.int64), tensor_at(words.value, count.value, torch.int32)]
        text = hashlib.blake2b(b"".join(part.numpy().tobytes() for part in told), digest_size=8 * blocks).digest()
        tensor_at(into.value, 8 * blocks, torch.uint8).copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))


IMAGES = (Image("mask", 128, 0, b""), Image("digest", 128, 0, b""))


class HostPage(Page):
    """Waits and writes at once what a GPU's stream waits for and writes later."""

    stopped = False

    @staticmethod
    def open(fd: int) -> HostPage:
        return HostPage(Page.open(fd)._memory)

    def register(self) -> None:
        self._device = self._at

    def wait(self, stream: int, token: int) -> None:
        while (self._go.value - token) & 0x80000000 and not self.stopped:
            time.sleep(_LOOK_S)

    def say_done(self, stream: int, token: int) -> None:
        self.give_up(token)

    def close(self) -> None:
        self._memory.close()


class HostEvent:
    """Says what the host's clock does."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: HostEvent) -> float:
        return (end.at - self.at) * 1e3


class HostStream:
    """The only one of a process: what is queued is done at once, stalled or not; who waits for it waits for whatever
    stalls it."""

    cuda_stream = 0

    def __init__(self) -> None:
        self.stalled: Callable[[], bool] = lambda: False

    def synchronize(self) -> None:
        while self.stalled():
            time.sleep(_LOOK_S)


class HostArena(CpuArena):
    stream = HostStream()

    @staticmethod
    def create(size: int, device: int = 0) -> HostArena:
        made = CpuArena.create(size)
        return HostArena(made.fd, made.size)

    @staticmethod
    def open(fd: int, size: int, device: int) -> HostArena:
        return HostArena(fd, size)

    @property
    def address(self) -> int:
        return self.bytes.data_ptr()

    def stall(self, stream: int, offset: int, token: int) -> None:
        word = ctypes.c_uint32.from_address(self.address + offset)
        self.stream.stalled = lambda: bool((word.value - token) & 0x80000000)


class Dials(ctypes.Structure):
    """Set by the test, read by all workers at once: seconds more that the one which computes nothing waits for its
    GPU."""

    _fields_ = (("empty_waits_s", ctypes.c_double),)

    empty_waits_s: float


class HostGpu:
    """A machine with such a GPU, and who owns its workers. Forked ones have an interpreter of their own, as workers do:
    the judge keeps his to himself while he looks at the clock."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.dials = Dials.from_buffer(mmap.mmap(-1, ctypes.sizeof(Dials)))
        self._folder, self._ended = folder, dict[int, bool]()
        self._empty = False  # in a worker: whether it computes nothing
        stream = HostArena.stream

        def synchronize() -> None:
            stream.synchronize()
            time.sleep(self.dials.empty_waits_s if self._empty else 0.0)

        patch.setattr(torch.cuda, "synchronize", synchronize)
        patch.setattr(torch.cuda, "current_stream", lambda: stream)
        patch.setattr(torch.cuda, "Event", HostEvent)
        mask, digest = map(HostKernel, IMAGES)
        kernels = Kernels(mask, digest, IMAGES, 0)  # type: ignore[arg-type]
        patch.setattr(sealing, "kernels", lambda device: kernels)
        for module in (sealing, empties, inside):
            patch.setattr(module, "CudaArena", HostArena)
        patch.setattr(inside, "Page", HostPage)
        patch.setattr(of_worker, "loaded", HostKernel)
        patch.setattr(of_chunks, "memset", lambda: lambda: None)
        patch.setattr(seats, "l2_bytes", lambda device: 0)  # so that some calls alone are cold
        patch.setattr(seats, "trim", lambda device: None)

    def fork(self, empty: bool = False) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        scratch = self._folder / f"worker{len(self._ended)}"
        scratch.mkdir()
        pid = os.fork()
        if pid == 0:
            try:
                syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
                ours.close()
                self._empty = empty
                _serve(theirs, str(scratch))
            finally:
                os._exit(0)
        theirs.close()
        self._ended[pid] = False
        owner: Any = self
        return Worker(owner, ours, pid, str(scratch), None)

    def close(self) -> None:
        for pid in self._ended:
            self.kill(pid)
            self.exit_words(pid, 10.0)

    # as an Owner

    def kill(self, pid: int) -> None:
        if not self._ended[pid]:
            os.kill(pid, signal.SIGKILL)

    def distrust(self, pid: int) -> None:
        pass

    def slept_s(self, pid: int) -> float:
        return 0.0

    def exit_words(self, pid: int, timeout_s: float) -> str | None:
        deadline = time.monotonic() + timeout_s
        while not self._ended[pid]:
            self._ended[pid] = os.waitpid(pid, os.WNOHANG)[0] == pid
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        return "it ended" if self._ended[pid] else None

    def is_clean(self, pid: int) -> bool:
        return self._ended[pid]

    def forget(self, pid: int, once_clean: Callable[[], None] | None = None) -> None:
        pass


def _serve(sock: socket.socket, scratch: str) -> None:
    """As ``inside.worker.serve``, without a sandbox."""
    gc.freeze()  # what the test's process has is much, and is looked at before each chunk
    torch.set_num_threads(1)  # others' threads are not forked
    policy: Any = SimpleNamespace(scratch=scratch)
    worker = inside.Worker(inside.Assignment("cuda", "cpu", policy))
    while True:
        try:
            request, fds = receive_with_fds(sock)
        except PeerGone:
            return
        kind, reply = worker.answer(request, fds)
        send_reply(sock, kind, request["number"], reply)
