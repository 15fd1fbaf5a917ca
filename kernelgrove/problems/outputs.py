"""The leaves of what ``forward`` returns, each with its place. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Leaves of an output, where not all are tensors: a worker describes no more (``structure.DESCRIBED``).
COMPARED = 64


def flatten(output: Any) -> list[tuple[str, Any]]:
    """The leaves of *output* in order, each with its path: ``""`` for a lone leaf, ``[0]``, ``['loss']``, ``[1]['x']``.

    Tuples, lists and mappings are containers, whatever their class; anything else is a leaf, None included.
    """
    leaves: list[tuple[str, Any]] = []
    _walk("", output, leaves)
    return leaves


def _walk(path: str, value: Any, leaves: list[tuple[str, Any]]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _walk(f"{path}[{key!r}]", item, leaves)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _walk(f"{path}[{index}]", item, leaves)
    else:
        leaves.append((path, value))
