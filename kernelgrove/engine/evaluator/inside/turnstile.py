"""The worker's side of calls that go through one by one: each is queued between a wait for its key and a digest of its
outputs, so that the next key is there only when the judge knows what these outputs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_int32, c_int64, c_uint64
from typing import Any

import torch

from ..wire.arena import CudaArena
from ..wire.kernels import Image, Kernel, loaded
from ..wire.page import Page
from ..wire.structure import fingerprint


class Turnstile:
    """*images*: of the kernels ``mask`` and ``digest`` (``timing/masking.py``)."""

    def __init__(self, page: Page, arena: CudaArena, images: Sequence[Image]) -> None:
        self._page, self._arena, self._images = page, arena, images
        self._kernels: tuple[Kernel, Kernel] | None = None
        self._plan: Mapping[str, Any] = {}
        self._stride = self._stream = 0

    def prepare(self) -> None:
        """What takes its time at the first. Raises CudaError."""
        if self._kernels is None:
            self._page.register()
            mask, digest = map(loaded, self._images)
            key, nothing = c_uint64(self._page.key_address(0)), c_uint64(self._arena.address)
            # A driver may load a kernel no sooner, and wait for streams then.
            mask.launch(1, 0, nothing, key, c_int32(0), c_int32(1))
            digest.launch(1, 0, nothing, key, c_uint64(self._page.digests_address), c_int64(0), c_int32(0))
            self._kernels = mask, digest

    def begin(self, plan: Mapping[str, Any], stride: int) -> None:
        """Make ready for the calls of *plan*, whose slots lie *stride* bytes apart. Raises CudaError."""
        self.prepare()
        self._plan, self._stride = plan, stride
        self._stream = torch.cuda.current_stream().cuda_stream

    def open(self) -> None:
        """Say that the first call is about to be queued."""
        self._page.give_up(self._plan["token"] - 1)

    def enter(self, number: int) -> None:
        """Queue what has to be before call *number*."""
        assert self._kernels is not None
        self._page.wait(self._stream, self._plan["token"] + number)
        masked = self._plan["masked"]
        if masked["blocks"]:
            words = c_uint64(self._arena.address + masked["start"] + number * self._stride)
            key, every = c_uint64(self._page.key_address(number)), masked["every"][number]
            blocks, quarter = -(-masked["blocks"] // every), c_int32(masked["quarter"])
            self._kernels[0].launch(blocks, self._stream, words, key, quarter, c_int32(every))

    def leave(self, number: int, said: Sequence[Sequence[str | None]] | None) -> None:
        """Queue what has to be after it. *said*: what of its output is no tensor (None: nothing ever is). Of that a
        fingerprint is there before the call is called done."""
        assert self._kernels is not None
        if said is not None:
            self._page.say(number, fingerprint(said))
        digested = self._plan["digested"]
        if digested["blocks"]:
            words = c_uint64(self._arena.address + digested["start"] + number * self._stride)
            key, into = c_uint64(self._page.key_address(number)), c_uint64(self._page.digests_address)
            count, steps = c_int64(digested["words"]), c_int32(digested["steps"])
            self._kernels[1].launch(digested["blocks"], self._stream, words, key, into, count, steps)
        self._page.say_done(self._stream, self._plan["token"] + number)

    def give_up(self, calls: int) -> None:
        """Not all *calls* calls will be made."""
        self._page.give_up(self._plan["token"] + calls - 1)

    def close(self) -> None:
        self._page.close()
