"""Counts of what one launch does, as a worker reports them and projection reads them. Standard library only.

All counts are for one call of ``forward`` at full size. ``flops`` is keyed by the unit that does them:
``fp32 fp64 fp16 bf16 int`` on the ordinary pipelines, ``special`` for exp, log, sqrt, sin and division,
``dot:fp32 dot:tf32 dot:fp16 dot:bf16 dot:fp8 dot:int8`` for matrix products (2·M·N·K each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Work:
    """One Triton launch or one ATen operator."""

    kind: str  # "triton" | "aten"
    name: str
    programs: int  # grid size; for aten 0, or the blocks of a kernel that gives each row one
    read_bytes: int  # unique bytes read: DRAM
    write_bytes: int  # unique bytes written: DRAM
    requested_bytes: int  # every load and store asked for: L2
    flops: Mapping[str, float] = field(default_factory=dict)
    grid: tuple[int, int, int] = (0, 0, 0)
    num_warps: int = 4
    num_stages: int = 3
    note: str = ""
    program_bytes: int = 0  # unique bytes that one program touches, 0 where unknown: tells re-reads from sharing

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Work:
        return Work(**{**data, "grid": tuple(data["grid"])})


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one launch for the target."""

    name: str
    registers: int  # a thread
    shared_bytes: int  # a program (block)
    spills: int  # spilled bytes a thread, 0 where unknown
    num_warps: int
    num_stages: int
    grid: tuple[int, int, int]
    constants: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Compiled:
        return Compiled(**{**data, "grid": tuple(data["grid"])})
