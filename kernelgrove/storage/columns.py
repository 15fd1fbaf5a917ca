"""Column types: text and JSON that any SQLite or PostgreSQL file can hold, whatever a model or a worker sent.

Text from language models and from untrusted workers may hold lone surrogates or NUL, which neither database can
store; figures may be NaN or infinite, which JSON cannot say. All are replaced on the way in, so that a strange
answer is stored rather than lost with its transaction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from sqlalchemy import Dialect, Float, Text
from sqlalchemy.types import TypeDecorator


def clean(text: str) -> str:
    """*text* with lone surrogates as ``?`` and NUL as U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def dumps(value: Any) -> str:
    """*value* as strict JSON: tuples and sets become lists, mappings objects, paths text, NaN and infinities null.

    Raises TypeError for anything else that JSON has no word for.
    """
    try:
        text = _encode(value)
    except ValueError:
        text = _encode(_finite(value))
    return clean(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=_plain).encode


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_finite(item) for item in value]
    return value


class CleanText(TypeDecorator[str]):
    """Text that came from outside."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class JsonText(TypeDecorator[Any]):
    """JSON kept as text. Loaded afresh at each read, so editing a loaded value never changes the row."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Real(TypeDecorator[float]):
    """A figure: NULL where it is missing, NaN or infinite, never -1."""

    impl = Float
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)
