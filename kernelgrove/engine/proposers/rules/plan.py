"""The parameters of a generated program, and their header line.

A program of the rules starts with ``# kernelgrove-rules: {json}``; an idea is a change of these parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

HEADER = "# kernelgrove-rules: "

#: The longest row held by one program: at 65,536 a group norm spilled 2.7 KB a thread on sm_90, at 32,768 nothing.
MAX_BLOCK = 32768


@dataclass(frozen=True)
class Plan:
    """How kernels are written. Row kernels read the first group, pointwise kernels the second, both the third.

    ``style``: ``whole`` (a row in registers), ``loop`` (tiles of ``tile`` columns), ``split`` (``splits`` programs a
    row, results combined). ``one_pass``: dependent reductions merged, by ``lane`` or by ``tile``. ``persistent`` is
    programs an SM, 0 for a program a row. ``warps`` 0 lets the width decide; ``stages`` 0 is Triton's own.
    """

    style: str = "whole"
    tile: int = 2048
    rows: int = 1
    splits: int = 64
    one_pass: str = ""
    backwards: bool = False
    warps: int = 0
    stages: int = 0
    persistent: int = 0

    block: int = 1024
    per_program: int = 1
    planes: bool = False
    point_warps: int = 4
    point_persistent: int = 0

    hints: bool = False
    even: bool = False
    constants: bool = False
    reciprocal: bool = False
    in_place: bool = False
    fold_bias: bool = False

    def change(self, **changes: Any) -> Plan:
        return replace(self, **changes)

    def header(self) -> str:
        """The first line of a program: what differs from the defaults."""
        plain = Plan()
        values = {key: value for key, value in asdict(self).items() if value != getattr(plain, key)}
        return HEADER + json.dumps(values, sort_keys=True)


def parse(code: str | None) -> Plan | None:
    """The plan in a program's header, None where there is none that can be read."""
    for line in (code or "").splitlines()[:5]:
        if line.startswith(HEADER):
            try:
                values = json.loads(line.removeprefix(HEADER))
            except ValueError:
                return None
            return _checked(values) if isinstance(values, dict) else None
    return None


def _checked(values: Mapping[str, Any]) -> Plan | None:
    plain = Plan()
    known = {f.name for f in fields(Plan)}
    if any(key not in known or type(value) is not type(getattr(plain, key)) for key, value in values.items()):
        return None
    plan = Plan(**values)
    powers = (plan.tile, plan.rows, plan.splits, plan.block)
    if plan.style not in ("whole", "loop", "split") or any(p < 1 or p & (p - 1) for p in powers):
        return None
    return plan


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
