"""Nested arguments and outputs as flat lists. Standard library only: judge and worker use the same rules."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Leaves of an output that a worker describes, and characters of a path or value in such a description.
DESCRIBED = 64
_LONGEST = 100


def flatten(value: Any, path: str = "", ordered: bool = False) -> list[tuple[str, Any]]:
    """The leaves of nested tuples, lists and mappings with their paths: ``""``, ``"[0]"``, ``"['loss']"``.

    *ordered*: a mapping's by the names of its keys. So are outputs flattened: Python calls ``{a, b}`` and ``{b, a}``
    equal. Inputs are in the order in which ``pack`` meets them.
    """
    if isinstance(value, Mapping):
        items: Sequence[tuple[Any, Any]] = list(value.items())
        if ordered:
            items = sorted(items, key=lambda item: repr(item[0]))
        return [leaf for key, item in items for leaf in flatten(item, f"{path}[{key!r}]", ordered)]
    if isinstance(value, list | tuple):
        return [leaf for index, item in enumerate(value) for leaf in flatten(item, f"{path}[{index}]", ordered)]
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
