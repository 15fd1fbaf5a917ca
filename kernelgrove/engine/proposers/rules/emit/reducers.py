"""Reductions of a row that is walked in tiles: running state, its end, and how partial results combine.

A reducer keeps one accumulator a lane, so that a row of N columns in tiles of B adds N / B terms a lane and then log2
of B levels of a tree: the rounding error stays near that of a pairwise sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph import REDUCE, Value
from ..space import Segment
from .body import Body

INF = 'float("inf")'


@dataclass
class Reducer:
    """One or two dependent reductions done in one walk. ``provides`` are the values it defines; ``source`` what it
    reads; ``mode`` is ``plain`` (one reduction), or how a pair is merged."""

    provides: tuple[Value, ...]
    source: Value
    mode: str = "plain"

    @property
    def kind(self) -> str:
        return self.provides[-1].kind if self.mode == "plain" else ("online" if self._is_softmax else "moments")

    @property
    def _is_softmax(self) -> bool:
        return self.provides[0].kind == "max"

    def components(self, stem: str) -> list[tuple[str, str]]:
        """Names and Triton types of what a partial result holds."""
        kind = self.kind
        if kind == "online":
            return [(f"{stem}_max", "float32"), (f"{stem}_sum", "float32")]
        if kind == "moments":
            return [(f"{stem}_mean", "float32"), (f"{stem}_m2", "float32")]
        if kind.startswith("arg"):
            return [(f"{stem}_best", "float32"), (f"{stem}_at", "int32")]
        return [(f"{stem}_{'sum' if kind in ('sum', 'mean') else kind}", "float32")]

    def start(self, body: Body, names: list[str], shape: str) -> None:
        """Accumulators before the first tile."""
        kind = self.kind
        if kind in ("sum", "mean"):
            body.add(f"{names[0]} = tl.zeros({shape}, tl.float32)")
        elif kind in ("max", "argmax"):
            body.add(f"{names[0]} = tl.full({shape}, -{INF}, tl.float32)")
        elif kind in ("min", "argmin"):
            body.add(f"{names[0]} = tl.full({shape}, {INF}, tl.float32)")
        elif kind == "online":
            scalar = "[1, 1]" if body.wide else "[1]"
            body.add(f"{names[0]} = tl.full({shape if self.mode == 'lane' else scalar}, -{INF}, tl.float32)")
            body.add(f"{names[1]} = tl.zeros({shape}, tl.float32)")
        else:
            body.add(f"{names[0]} = tl.zeros({shape}, tl.float32)")
            body.add(f"{names[1]} = tl.zeros({shape}, tl.float32)")
            body.add(f"{names[0]}_seen = tl.zeros({shape}, tl.float32)" if self.mode == "lane" else "")
        if kind.startswith("arg"):
            body.add(f"{names[1]} = tl.zeros({shape}, tl.int32)")

    def update(self, body: Body, names: list[str]) -> None:
        """Take in the tile at hand."""
        kind = self.kind
        if kind in ("sum", "mean"):
            body.add(f"{names[0]} += {body.filled(self.source, '0.0')}")
        elif kind in ("max", "min"):
            fill = f"-{INF}" if kind == "max" else INF
            body.add(f"{names[0]} = tl.{kind}imum({names[0]}, {body.filled(self.source, fill)})")
        elif kind in ("argmax", "argmin"):
            fill, sign = (f"-{INF}", ">") if kind == "argmax" else (INF, "<")
            candidate = body.frame.names.fresh("candidate")
            body.add(f"{candidate} = {body.filled(self.source, fill)}")
            body.add(f"{names[1]} = tl.where({candidate} {sign} {names[0]}, cols, {names[1]})")
            body.add(f"{names[0]} = tl.{kind[3:]}imum({names[0]}, {candidate})")
        elif kind == "online":
            self._update_online(body, names)
        else:
            self._update_moments(body, names)

    def _update_online(self, body: Body, names: list[str]) -> None:
        """Keep sum(exp(x - m)) for the maximum m so far; when m grows, scale what was summed."""
        peak, total = names
        candidate, new, safe = (body.frame.names.fresh(n) for n in ("candidate", "new_max", "reference"))
        body.add(f"{candidate} = {body.filled(self.source, '-' + INF)}")
        if self.mode == "lane":
            body.add(f"{new} = tl.maximum({peak}, {candidate})")
        else:
            body.add(f"{new} = tl.maximum({peak}, tl.max({candidate}, {_kept(body)}))")
        body.add(f"{safe} = tl.where({new} == -{INF}, 0.0, {new})  # nothing finite yet")
        body.add(f"{total} = {total} * tl.exp({peak} - {safe}) + tl.exp({candidate} - {safe})")
        body.add(f"{peak} = {new}")

    def _update_moments(self, body: Body, names: list[str]) -> None:
        """Welford's update by lane; by tile, sums of (x - s) and its square for a shift s inside the data."""
        mean, m2 = names
        delta = body.frame.names.fresh("delta")
        if self.mode == "lane":
            seen = f"{mean}_seen"
            body.add(f"{delta} = tl.where(inside, {body.get(self.source)} - {mean}, 0.0)")
            body.add(f"{seen} += tl.where(inside, 1.0, 0.0)")
            body.add(f"{mean} += {delta} / tl.maximum({seen}, 1.0)")
            body.add(f"{m2} += {delta} * tl.where(inside, {body.get(self.source)} - {mean}, 0.0)")
        else:
            shift = f"{mean}_shift"
            body.add(f"{delta} = tl.where(inside, {body.get(self.source)} - {shift}, 0.0)")
            body.add(f"{mean} += {delta}")
            body.add(f"{m2} += {delta} * {delta}")

    def collapse(self, body: Body, names: list[str], length: str) -> None:
        """From accumulators by lane to one result a row, under the same names. *length* columns were walked."""
        kind, axis = self.kind, body.axis
        if kind in ("sum", "mean"):
            body.add(f"{names[0]} = tl.sum({names[0]}, {axis})")
        elif kind in ("max", "min"):
            body.add(f"{names[0]} = tl.{kind}({names[0]}, {axis})")
        elif kind in ("argmax", "argmin"):
            self._collapse_place(body, names, axis)
        elif kind == "online":
            self._collapse_online(body, names)
        elif self.mode == "lane":
            mean, m2 = names
            whole = body.frame.names.fresh("whole_mean")
            body.add(f"{whole} = tl.sum({mean} * {mean}_seen, {axis}) / {_at_least_one(length)}")
            body.add(f"{m2} = tl.sum({m2} + {mean}_seen * ({mean} - {whole}) * ({mean} - {whole}), {axis})")
            body.add(f"{mean} = {whole}")
        else:
            mean, m2 = names
            body.add(f"{mean} = tl.sum({mean}, {axis}) / {_at_least_one(length)}")
            body.add(f"{m2} = tl.sum({m2}, {axis}) - {mean} * {mean} * ({length})")
            body.add(f"{mean} += {mean}_shift")

    def _collapse_online(self, body: Body, names: list[str]) -> None:
        peak, total = names
        if self.mode == "lane":
            whole = body.frame.names.fresh("whole_max")
            body.add(f"{whole} = tl.max({peak}, {body.axis})")
            body.add(f"{total} = tl.sum({total} * tl.exp({peak} - {whole}), {body.axis})")
            body.add(f"{peak} = {whole}")
        else:
            body.add(f"{total} = tl.sum({total}, {body.axis})")
            body.add("" if body.wide else f"{peak} = tl.max({peak}, axis=0)")

    def _collapse_place(self, body: Body, names: list[str], axis: str) -> None:
        best, at = names
        extreme = body.frame.names.fresh("extreme")
        body.add(f"{extreme} = tl.{self.kind[3:]}({best}, {axis})")
        body.add(f"{at} = tl.min(tl.where({best} == {extreme}, {at}, 2147483647), {axis})")
        body.add(f"{best} = {extreme}")

    def combine(self, body: Body, names: list[str], lengths: str) -> None:
        """From the partial results of all parts (vectors) to the row's, under the same names."""
        kind = self.kind
        if kind == "online":
            peak, total = names
            whole = body.frame.names.fresh("whole_max")
            body.add(f"{whole} = tl.max({peak}, axis=0)")
            body.add(f"{total} = tl.sum({total} * tl.exp({peak} - {whole}), axis=0)")
            body.add(f"{peak} = {whole}")
        elif kind == "moments":
            mean, m2 = names
            whole = body.frame.names.fresh("whole_mean")
            body.add(f"{whole} = tl.sum({mean} * {lengths}, axis=0) / columns")
            body.add(f"{m2} = tl.sum({m2} + {lengths} * ({mean} - {whole}) * ({mean} - {whole}), axis=0)")
            body.add(f"{mean} = {whole}")
        elif kind.startswith("arg"):
            self._collapse_place(body, names, "axis=0")
        else:
            body.add(f"{names[0]} = tl.{'sum' if kind in ('sum', 'mean') else kind}({names[0]}, axis=0)")

    def fill(self, component: int) -> str:
        """What stands for a part that is not there."""
        if self.kind in ("max", "argmax", "online") and component == 0:
            return f"-{INF}"
        return INF if self.kind in ("min", "argmin") and component == 0 else "0.0" if component == 0 else "0"

    def define(self, body: Body, names: list[str]) -> None:
        """Give the values provided their final form."""
        if self.kind == "moments":
            body.define(self.provides[0], names[0])
            if self.provides[1].kind == "mean":
                body.add(f"{names[1]} = {names[1]} / columns")
            body.define(self.provides[1], names[1])
        elif self.kind == "online":
            body.define(self.provides[0], names[0])
            body.define(self.provides[1], names[1])
        elif self.kind.startswith("arg"):
            body.define(self.provides[0], names[1])
        else:
            if self.kind == "mean":
                body.add(f"{names[0]} = {names[0]} / columns")
            body.define(self.provides[0], names[0])


def _kept(body: Body) -> str:
    return "axis=1, keep_dims=True" if body.wide else "axis=0"


def _at_least_one(length: str) -> str:
    return length if length == "columns" else f"tl.maximum({length}, 1)"


# ---------------------------------------------------------------------------------------- pairs and levels


def pairs(segment: Segment) -> list[tuple[Value, Value]]:
    """Dependent reductions that one walk can do: (max(v), sum(exp(v - max(v)))), (mean(v), var(v))."""
    found = []
    for second in segment.values:
        if second.op != REDUCE or second.kind not in ("sum", "mean"):
            continue
        inner = second.args[0]
        if inner.op not in ("exp", "square") or inner.args[0].op != "sub" or inner in segment.inputs:
            continue
        v, first = inner.args[0].args
        wanted = "max" if inner.op == "exp" else "mean"
        good = first.op == REDUCE and first.kind == wanted and first.args[0] is v and first not in segment.inputs
        if good and (wanted == "mean" or second.kind == "sum"):
            found.append((first, second))
    return found


def levels(segment: Segment, merge: str) -> list[list[Reducer]]:
    """The walks over a row: reducers that need the results of earlier walks only, walk by walk. *merge* is the way
    pairs are merged, "" for not at all."""
    partner: dict[Value, Value] = {}
    if merge:
        for first, second in pairs(segment):
            if first not in partner and second not in partner.values():
                partner[first] = second
    seconds = set(partner.values())
    level: dict[Value, int] = {}
    inputs = set(segment.inputs)
    depth_of: Callable[[Value], int] = lambda v: level.get(v, 0)  # noqa: E731
    walks: dict[int, list[Reducer]] = {}
    for value in segment.values:
        depth = max((depth_of(a) for a in value.args if a not in inputs), default=0)
        if value.op == REDUCE and value not in seconds:
            depth += 1
            reducer = Reducer((value,), value.args[0])
            if value in partner:
                reducer = Reducer((value, partner[value]), value.args[0], merge)
                level[partner[value]] = depth
            walks.setdefault(depth, []).append(reducer)
        if value in seconds:
            continue
        level[value] = depth
    return [walks[depth] for depth in sorted(walks)]
