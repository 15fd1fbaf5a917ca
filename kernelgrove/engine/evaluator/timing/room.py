"""How much there is for the calls of a chunk: of the device's memory, and of the message with what is no tensor."""

from __future__ import annotations

import json

from ..checking.correctness import Expected
from ..wire.structure import described
from .slots import Layout

#: Of memory a chunk has so many bytes at most: filling more costs more than it tells. And of a message.
CHUNK_BYTES, SAID_BYTES = 12 << 30, 40_000
_WORKING = 10  # times what a call's take, for drawing some and for comparing them at once
_TEXT = 240  # bytes of one text, however long it is (structure.label)


def room_of(memory: int, besides: int, layout: Layout, parts: int) -> int:
    """Bytes for the places of all calls. *parts*: these, the empty worker's beside them (a baseline has none), and the
    inputs that come to lie there. What is needed besides, and for drawing and comparing, makes room smaller, but not
    smaller than for one call where there is any doubt that it is needed at once."""
    wanted = (memory - besides - _WORKING * layout.stride) // parts
    if wanted < layout.size(2) <= memory // (parts + 2):
        wanted = layout.size(2)
    return min(CHUNK_BYTES, wanted)


def said_bytes(expected: Expected) -> int:
    """Bytes at most that a message has of it, where it is no tensor."""
    if expected.spec is not None:
        return 0
    kind, shown = described(expected.value)
    return _TEXT if kind in ("str", "bytes") else len(json.dumps([kind, shown])) + 16
