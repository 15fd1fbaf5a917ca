"""What an iteration of the screening loop costs around its call: measured with the smallest kernel there is."""

from __future__ import annotations

import statistics
from typing import Any

from ..wire.arena import Arena
from ..wire.protocol import Reply, finite_floats
from ..wire.structure import pack
from ..workers.handle import Worker

_LIMIT_S = 60.0
_COUNTS = (20, 100, 100)  # calls a round; the first warms up
_NOOP = b"""
import torch
import triton
import triton.language as tl


@triton.jit
def touch(x_ptr, count, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, offsets.to(tl.float32), mask=offsets < count)


class ModelNew:
    def __init__(self):
        self.x = torch.empty(16, device="cuda")
        self()

    def __call__(self):
        touch[(1,)](self.x, 16, BLOCK=16)
        return 0
"""
#: The pickle of no arguments.
_EMPTY = pack([], lambda _: False, [])


def load(worker: Worker, arena: Arena) -> None:
    fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
    worker.ask("load", Reply.LOADED, _LIMIT_S, fields, [_NOOP, _EMPTY, arena.fd])


def around(worker: Worker, flush_bytes: int) -> float:
    """What an iteration takes that its call does not claim, in ms. *worker* is loaded, and has the GPU to itself."""
    figures = []
    for count in _COUNTS:
        fields: dict[str, Any] = {"inputs": [], "flush_bytes": flush_bytes, "n": count}
        worker.ask("arm", Reply.ARMED, _LIMIT_S, fields, [_EMPTY])
        worker.ask("go", Reply.TIMED, _LIMIT_S, {})
        wall_ms = worker.wall_s * 1e3
        reply = worker.ask("deliver", Reply.DELIVERED, _LIMIT_S, {"outputs": []})
        claims = finite_floats(reply.get("claims"), count)
        figures.append(wall_ms / count - statistics.median(claims))
    return max(figures[1:])
