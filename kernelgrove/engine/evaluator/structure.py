"""Nested arguments and outputs as flat lists. Standard library only: judge and worker use the same rules."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested tuples, lists and mappings with their paths: ``""``, ``"[0]"``, ``"['loss']"``."""
    if isinstance(value, Mapping):
        return [leaf for key, item in value.items() for leaf in flatten(item, f"{path}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [leaf for index, item in enumerate(value) for leaf in flatten(item, f"{path}[{index}]")]
    return [(path, value)]


def pack(value: Any, is_tensor: Callable[[Any], bool], tensors: list[Any]) -> bytes:
    """*value* pickled with its tensors appended to *tensors* instead. Judge to worker only, never back."""

    class Packer(pickle.Pickler):
        def persistent_id(self, item: Any) -> int | None:
            if not is_tensor(item):
                return None
            tensors.append(item)
            return len(tensors) - 1

    buffer = io.BytesIO()
    Packer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def unpack(data: bytes, tensors: Sequence[Any]) -> Any:
    """The reverse of ``pack`` in a worker, with *tensors* put back by number."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, number: Any) -> Any:
            return tensors[number]

    return Unpacker(io.BytesIO(data)).load()
