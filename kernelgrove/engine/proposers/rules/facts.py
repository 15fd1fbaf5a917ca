"""What ideas are weighed by: the sizes of the kernels at hand and the numbers of the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from kernelgrove.engine.gpus.specs import GpuSpec, find

from .analysis import Analysis
from .emit.module import planes_of, reusable
from .emit.reducers import pairs
from .emit.rows import fitted, warps
from .plan import Plan, next_power_of_2
from .space import Segment

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "bool": 1}


@dataclass(frozen=True)
class Facts:
    """A problem on a target. ``rows`` and ``points`` are the largest segment with reductions or scans and the largest
    without, None where there is none."""

    analysis: Analysis
    gpu: GpuSpec
    rows: Segment | None
    points: Segment | None

    @property
    def rows_matter_most(self) -> bool:
        return traffic(self.rows) >= traffic(self.points)


def facts(analysis: Analysis, target: str) -> Facts:
    """The facts of an analysed problem. Raises UsageError for a target that is not known."""
    by_traffic = sorted(analysis.segments, key=traffic, reverse=True)
    rows = next((s for s in by_traffic if s.columns is not None), None)
    points = next((s for s in by_traffic if s.columns is None), None)
    return Facts(analysis, find(target), rows, points)


def traffic(segment: Segment | None) -> int:
    """Bytes a segment has to move: each input read once, each output written once."""
    if segment is None:
        return 0
    return sum(v.numel * _BYTES.get(v.dtype, 4) for v in (*segment.inputs, *segment.outputs))


@dataclass(frozen=True)
class RowFacts:
    """A row segment under a plan, which is fitted to it."""

    segment: Segment
    plan: Plan
    count: int
    columns: int
    width: int
    warps: int

    @property
    def row_kb(self) -> float:
        return self.columns * 4 / 1024

    @property
    def softmax_like(self) -> bool:
        return any(first.kind == "max" for first, _ in pairs(self.segment))

    @property
    def variance_like(self) -> bool:
        return any(first.kind == "mean" for first, _ in pairs(self.segment))

    @property
    def divides(self) -> bool:
        """Whether an element is divided by something of its row."""
        return any(
            v.op == "div" and self.segment.varies_by_column(v) and not self.segment.varies_by_column(v.args[1])
            for v in self.segment.values
        )

    @property
    def weights(self) -> bool:
        """Whether operands are shared by all rows."""
        return any(
            (atoms := self.segment.atoms(v)) and all(a in self.segment.reduced for a in atoms)
            for v in self.segment.inputs
        )


def row_facts(segment: Segment, plan: Plan) -> RowFacts:
    fit = fitted(segment, plan)
    width = next_power_of_2(segment.column_count)
    return RowFacts(segment, fit, segment.row_count, segment.column_count, width, warps(segment, fit))


def has_planes(segment: Segment) -> bool:
    """Whether a pointwise segment has rows worth a program each."""
    planes = planes_of(segment)
    return planes is not None and planes.row_count >= 256 and planes.column_count >= 64


def can_overwrite(analysis: Analysis) -> bool:
    plain = analysis.plain
    return plain is not None and any(reusable(plain, s) is not None for s in plain.segments)
