"""JSON objects that are decoded when they are first looked into: a snapshot holds hundreds of thousands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


class JsonObject(Mapping[str, Any]):
    """The object that *text* is. Never changes; equal to a dict of the same items."""

    __slots__ = ("_value",)

    def __init__(self, text: str) -> None:
        self._value: str | dict[str, Any] = text

    def _decoded(self) -> dict[str, Any]:
        value = self._value
        if isinstance(value, str):
            value = self._value = json.loads(value)
        return value

    def __getitem__(self, key: str) -> Any:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __contains__(self, key: object) -> bool:
        return key in self._decoded()

    def get(self, key: str, default: Any = None) -> Any:
        return self._decoded().get(key, default)

    def __repr__(self) -> str:
        return repr(self._decoded())
