"""What a worker may say, field by field; anything else is a ProtocolBreak. Standard library only; used by the judge.

A reply that passed has the fields below and no others, its numbers are finite, not negative and far from where sums
and products of them overflow, and its texts can be printed and stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .protocol import ProtocolBreak, Reply, clean

#: Takes a value and gives it back, texts cleaned. Raises _Unfit.
Check = Callable[[Any], Any]

#: Above any true count; a few of these multiplied are still a finite float.
_MOST = 1 << 62
_SIZES = 1 << 31  # above any grid, index or size of a block
_PATH, _NAME, _MESSAGE = 400, 400, 6000


class _Unfit(Exception):
    """The value is not what the field holds."""


def checked(kind: Reply, payload: Mapping[str, Any]) -> dict[str, Any]:
    """*payload* of a reply of *kind*, its texts cleaned. Raises ProtocolBreak unless it has that kind's form."""
    fields, optional = _FORMS[kind]
    strange = [name for name in payload if name not in fields and name not in optional]
    missing = [name for name in fields if name not in payload]
    if strange or missing:
        what = f"no {missing[0]}" if missing else "a field that it should not have"
        raise ProtocolBreak(f"the worker's {kind.name} reply has {what}")
    found = {}
    for name, value in payload.items():
        try:
            found[name] = (fields.get(name) or optional[name])(value)
        except _Unfit:
            raise ProtocolBreak(f"the worker's {kind.name} reply holds no sensible {name}") from None
    return found


# --------------------------------------------------------------------------------------------------- kinds of value


def _text(most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Unfit
        return clean(value, most)

    return check


def _one_of(*allowed: Any) -> Check:
    def check(value: Any) -> Any:
        if not any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
            raise _Unfit
        return value

    return check


def _integer(most: int = _MOST) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise _Unfit
        return value

    return check


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Unfit
    if not 0 <= value <= _MOST:  # nor NaN
        raise _Unfit
    return value


def _maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _list(check: Check, most: int) -> Check:
    def each(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise _Unfit
        return [check(item) for item in value]

    return each


def _row(*checks: Check) -> Check:
    def each(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) != len(checks):
            raise _Unfit
        return [check(item) for check, item in zip(checks, value, strict=True)]

    return each


def _mapping(check: Check, most: int = 64) -> Check:
    def each(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise _Unfit
        return {clean(name, _NAME): check(item) for name, item in value.items()}

    return each


def _record(**fields: Check) -> Check:
    def each(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or value.keys() != fields.keys():
            raise _Unfit
        return {name: check(value[name]) for name, check in fields.items()}

    return each


# -------------------------------------------------------------------------------------------------- kinds of reply

_BOOLEAN = _one_of(True, False)
_GRID = _row(*[_integer(_SIZES)] * 3)
_LAYER = _record(name=_text(_NAME), required=_BOOLEAN, active=_BOOLEAN, why=_text(_MESSAGE))
_LEAF = _row(_text(_PATH), _maybe(_list(_integer(), 64)), _text(_NAME), _maybe(_text(_NAME)))
_WORK = _record(
    kind=_one_of("triton", "aten"),
    name=_text(_NAME),
    programs=_integer(),
    read_bytes=_number,
    write_bytes=_number,
    requested_bytes=_number,
    flops=_mapping(_number),
    grid=_GRID,
    num_warps=_integer(1 << 10),
    num_stages=_integer(1 << 10),
    note=_text(_NAME),
    program_bytes=_number,
)
_COMPILED = _record(
    name=_text(_NAME),
    registers=_integer(1 << 20),
    shared_bytes=_integer(_SIZES),
    spills=_integer(_SIZES),
    num_warps=_integer(1 << 10),
    num_stages=_integer(1 << 10),
    grid=_GRID,
    constants=_mapping(_text(_NAME)),
)

_Fields = dict[str, Check]
_NONE: _Fields = {}
_DELIVERY: _Fields = {"leaves": _list(_LEAF, 64), "count": _integer(), "copied": _BOOLEAN}
_OBSERVED: _Fields = {"operators": _list(_text(60), 12), "launches": _integer(_SIZES)}

#: Fields that a reply of each kind must have, and those that it may have.
_FORMS: dict[Reply, tuple[_Fields, _Fields]] = {
    Reply.READY: ({"layers": _list(_LAYER, 64)}, _NONE),
    Reply.LOADED: ({"weights": _one_of("by name", "by seed")}, _NONE),
    Reply.CALLED: (
        {
            **_DELIVERY,
            "unwritten": _list(_integer(_SIZES), 10_000),
            "provenance": _one_of("", "custom", "mixed", "library"),
        },
        _OBSERVED,
    ),
    Reply.TIMED: (_NONE, _NONE),
    Reply.COUNTED: ({"works": _list(_WORK, 200), "launches": _integer()}, _NONE),
    Reply.COMPILED: ({"compiled": _list(_COMPILED, 200), "seconds": _number}, _NONE),
    Reply.FAILED: ({"outcome": _text(_NAME), "stage": _text(_NAME), "message": _text(_MESSAGE)}, _NONE),
    Reply.ARMED: (_NONE, _NONE),
    Reply.DELIVERED: ({**_DELIVERY, "claims": _list(_number, 10_000)}, _NONE),
    Reply.SEALED: (_NONE, _NONE),
    Reply.QUEUED: (_NONE, _NONE),
    Reply.FINISHED: ({"said": _text(_NAME)}, _NONE),  # a fingerprint of what the claims say, in hexadecimal
    Reply.PACED: ({"pace": _list(_maybe(_number), 1024)}, _NONE),  # ms
    Reply.CLAIMED: (
        {
            **_DELIVERY,
            "claims": _list(_number, 10_000),
            "said": _list(_list(_row(_text(_NAME), _maybe(_text(_NAME))), 64), 10_000),
        },
        _NONE,
    ),
}
