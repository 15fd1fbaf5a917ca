"""Reading what another program wrote: values of the type asked for, and errors that say which entry is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ...errors import UsageError

_T = TypeVar("_T")

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
_SECRET = re.compile(r"(api_?key|secret|password|credential|access_?token|auth_?token)s?$", re.IGNORECASE)


class BrokenFile(UsageError):
    """An entry of a file cannot be taken; nothing of the file was imported."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}.", "Nothing was imported.")


def parse_json(text: str | bytes, where: str) -> Any:
    """The JSON in *text*. NaN and Infinity, which Python programs write for "no figure", are read as such; whoever
    reads a figure judges them. Raises BrokenFile."""
    try:
        return json.loads(text)
    except UnicodeDecodeError:
        raise BrokenFile(where, "not UTF-8 text") from None
    except RecursionError:
        raise BrokenFile(where, "nested too deeply") from None
    except ValueError as error:
        raise BrokenFile(where, f"not JSON: {error}") from None


def has(value: Any, wanted: type) -> bool:
    """Whether *value* is a *wanted* in JSON's sense: a bool is no number, a whole number is a float."""
    if wanted in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if wanted is float else wanted)


def field(entry: Mapping[str, Any], key: str, wanted: type[_T], where: str) -> _T:
    """``entry[key]``, which must be there and a *wanted*. Raises BrokenFile."""
    if key not in entry:
        raise BrokenFile(where, f"the key {key!r} is missing")
    value = entry[key]
    if not has(value, wanted):
        raise BrokenFile(where, f"{key!r} is {_shown(value)}, not {_WORDS[wanted]}")
    return value  # type: ignore[no-any-return]


def optional(entry: Mapping[str, Any], key: str, wanted: type[_T], where: str) -> _T | None:
    """As ``field``, but None where the key is missing or null."""
    return None if entry.get(key) is None else field(entry, key, wanted, where)


def entry_of(value: Any, where: str) -> dict[str, Any]:
    """*value*, which must be an object."""
    if not isinstance(value, dict):
        raise BrokenFile(where, f"{_shown(value)}, not an object")
    return value


def key_of(entry: Mapping[str, Any], key: str, where: str) -> str:
    """An id that may be text or a whole number, as text."""
    value = entry.get(key)
    if key not in entry or not (has(value, str) or has(value, int)):
        why = f"the key {key!r} is missing" if key not in entry else f"{key!r} is {_shown(value)}, not an id"
        raise BrokenFile(where, why)
    return str(value)


def figure(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    """A positive figure; None where it is missing, null, or the -1 or 0 that stands for "none". Raises BrokenFile for
    NaN and infinities: nobody measured those."""
    value = optional(entry, key, float, where)
    if value is None:
        return None
    if not math.isfinite(value):
        raise BrokenFile(where, f"{key!r} is {value}, which is no figure")
    return float(value) if value > 0 else None


def without_secrets(value: Any) -> Any:
    """*value* with what a configuration may hold of credentials left out."""
    if isinstance(value, dict):
        return {
            key: without_secrets(item)
            for key, item in value.items()
            if not (isinstance(item, str) and _SECRET.search(str(key)))
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}…"
