"""Nested arguments and outputs as flat lists. Standard library only: judge and worker use the same rules."""

from __future__ import annotations

import hashlib
import io
import json
import numbers
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Leaves of an output that a worker describes, and characters of a path or value in such a description.
DESCRIBED = 64
_LONGEST = 100
_SHORT = 1 << 63  # below which an integer needs no ``label``
FINGERPRINT = 16  # bytes


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


def described(leaf: Any) -> tuple[str, str | None]:
    """Kind and value of a leaf that is no tensor, as texts that can be compared; value None for what is no number, text
    or None. Other libraries' numbers are as Python's."""
    if type(leaf) is float:  # first, and without asking abstract classes: this is done between timed calls
        return "float", repr(leaf)
    if type(leaf) is int and -_SHORT < leaf < _SHORT:
        return "int", repr(leaf)
    if leaf is None or isinstance(leaf, bool):
        return type(leaf).__name__, repr(leaf)
    if isinstance(leaf, numbers.Integral):
        return "int", label(repr(int(leaf)))
    if isinstance(leaf, numbers.Real):
        return "float", repr(float(leaf))
    if isinstance(leaf, numbers.Complex):
        return "complex", repr(complex(leaf))
    if isinstance(leaf, str):
        return "str", label(str.__repr__(leaf))
    if isinstance(leaf, bytes):
        return "bytes", label(bytes.__repr__(leaf))
    return type(leaf).__name__, None


def fingerprint(said: Sequence[Sequence[Any]]) -> bytes:
    """Of kinds and values as ``described`` gives them, of one call or of many, before a message or after: FINGERPRINT
    bytes."""
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=FINGERPRINT).digest()


def label(text: str) -> str:
    """*text* in ASCII and no longer than a reply has room for. Texts that differ have labels that do."""
    plain = text.encode("ascii", "backslashreplace").decode()
    if len(plain) <= _LONGEST:
        return plain
    return f"{plain[:60]}...{hashlib.sha256(plain.encode()).hexdigest()[:32]}"


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
