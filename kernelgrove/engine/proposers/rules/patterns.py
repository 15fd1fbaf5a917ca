"""Recognise what can be fused: group lowered values into segments, one kernel each.

Greedy, in the order of the graph: a value joins the kernels of its arguments where they share a space and no result
would have to leave and come back. What ends in no worthwhile segment goes back to PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx

from .graph import FLOATS, HOST_NUMBER, REDUCE, SCAN, TENSOR, VIEW, Value
from .lower import Lowered, lower
from .space import UNKNOWN, NoSpace, Segment, space

#: Below this many elements a kernel of our own saves nothing over PyTorch's.
WORTHWHILE = 1024

#: A step of the program: something PyTorch does, or a segment.
Step = fx.Node | Segment


@dataclass
class Recognised:
    """A reference cut into steps, in an order in which each finds its inputs ready. ``left`` names the nodes that
    could have been lowered and were left to PyTorch."""

    lowered: Lowered
    segments: tuple[Segment, ...]
    steps: tuple[Step, ...]
    left: frozenset[str]


def recognise(graph: fx.Graph, root: torch.nn.Module, like: Recognised | None = None) -> Recognised:
    """Cut *graph* into segments and PyTorch calls: as *like* was, the same reference at another size, or by what is
    worth a kernel."""
    banned = {node for node in graph.nodes if like is not None and node.name in like.left}
    while True:
        lowered = lower(graph, root, frozenset(banned))
        groups = _Groups(lowered, least=WORTHWHILE if like is None else 0)
        groups.grow()
        refused = groups.refused()
        if not refused:
            return groups.result(frozenset(node.name for node in banned))
        banned |= refused


class _Groups:
    def __init__(self, lowered: Lowered, least: int) -> None:
        self.lowered = lowered
        self.least = least
        self.maker: dict[Value, fx.Node] = {}  # the host node behind a leaf
        self.owner: dict[Value, fx.Node] = {}  # the lowered node a value is part of
        for node, value in lowered.value.items():
            if node not in lowered.body:
                self.maker[value] = node
        for node, body in lowered.body.items():
            for value in body:
                self.owner[value] = node
        self.group: dict[Value, int] = {}
        self.members: dict[int, list[Value]] = {}
        self.segments: dict[int, Segment] = {}

    # ------------------------------------------------------------------------------------------- growing

    def grow(self) -> None:
        for body in self.lowered.body.values():
            for value in body:
                self._join(value)

    def _join(self, value: Value) -> None:
        """Put *value* with all the groups of its arguments, or one of them, or by itself, or nowhere."""
        near = sorted({self.group[a] for a in value.args if a in self.group}, reverse=True)
        choices = [near] if near else []
        choices += [[g] for g in near] if len(near) > 1 else []
        any(self._try(value, choice) for choice in [*choices, []])

    def _try(self, value: Value, groups: list[int]) -> bool:
        together = {v for g in groups for v in self.members[g]} | {value}
        values = [v for body in self.lowered.body.values() for v in body if v in together]
        try:
            segment = space(values)
        except NoSpace:
            return False
        number = max(self.members, default=-1) + 1
        group = {v: number if v in together else g for v, g in self.group.items()} | {value: number}
        if _order(self._edges(group)) is None:
            return False
        self.group = group
        for g in groups:
            del self.members[g], self.segments[g]
        self.members[number], self.segments[number] = values, segment
        return True

    # -------------------------------------------------------------------------------------------- order

    def _unit(self, value: Value, group: dict[Value, int]) -> object | None:
        """What computes *value*: a group, a host node, the value alone, or nobody (a weight)."""
        if value in group:
            return group[value]
        if value in self.maker:
            return self.maker[value]
        return value if value in self.owner else None

    def _edges(self, group: dict[Value, int]) -> dict[object, set[object]]:
        """Which unit needs which."""
        edges: dict[object, set[object]] = {}
        for value in self.owner:
            unit = self._unit(value, group)
            needs = edges.setdefault(unit, set())
            needs |= {u for a in value.args if (u := self._unit(a, group)) is not None and u != unit}
        for node in self.lowered.graph.nodes:
            if node in self.lowered.body:
                continue
            needs = edges.setdefault(node, set())
            for source in node.all_input_nodes:
                held = self.lowered.value.get(source)
                owner = self._unit(held, group) if held is not None else source
                if owner is not None and owner != node:
                    needs.add(owner)
        return edges

    # ------------------------------------------------------------------------------------------- judging

    def refused(self) -> set[fx.Node]:
        """Nodes whose values found no place, or a place that is not worth a kernel."""
        lost = {self.owner[v] for v in self.owner if v not in self.group}
        worthy = {self.owner[v] for s in self.segments.values() if _worthwhile(s, self.least) for v in s.values}
        for segment in self.segments.values():
            owners = {self.owner[v] for v in segment.values}
            useless = (
                not _worthwhile(segment, self.least) and not owners & worthy
            )  # a large operation may end in a small kernel
            if useless or UNKNOWN in segment.extents:
                lost |= owners
        for number, values in self.members.items():
            outputs = self._outputs(number, values)
            if any(v.dtype not in (*FLOATS, "bool", "int64") for v in outputs):
                lost |= {self.owner[v] for v in values}
        return lost

    def _outputs(self, number: int, values: list[Value]) -> tuple[Value, ...]:
        """Values that another unit uses."""
        used: set[Value] = set()
        for node in self.lowered.graph.nodes:
            if node not in self.lowered.body:
                used |= {self.lowered.value[n] for n in node.all_input_nodes if n in self.lowered.value}
        for value in self.owner:
            if self.group.get(value) != number:
                used |= set(value.args)
        return tuple(v for v in values if v in used)

    def result(self, left: frozenset[str]) -> Recognised:
        segments: dict[int, Segment] = {}
        for number, segment in self.segments.items():
            segment.outputs = self._outputs(number, self.members[number])
            segments[number] = segment
        order = _order(self._edges(self.group)) or []
        wanted = self._needed(segments)
        steps: list[Step] = []
        for unit in order:
            if isinstance(unit, int) and unit in wanted:
                steps.append(segments[unit])
            elif isinstance(unit, fx.Node) and unit in wanted and unit.op not in ("placeholder", "get_attr"):
                steps.append(unit)
        kept = tuple(step for step in steps if isinstance(step, Segment))
        return Recognised(self.lowered, kept, tuple(steps), left)

    def _needed(self, segments: dict[int, Segment]) -> set[object]:
        """Units that the result depends on."""
        edges = self._edges(self.group)
        for number, segment in segments.items():  # sizes are read off tensors, never off their makers' numbers
            edges[number] = {
                u for v in (*segment.inputs, *segment.numbers) if (u := self._unit(v, self.group)) is not None
            }
            edges[number] |= set(self._factor_nodes(segment))
        needed: set[object] = set()
        stack: list[object] = [n for n in self.lowered.graph.nodes if n.op == "output"]
        while stack:
            unit = stack.pop()
            if unit not in needed:
                needed.add(unit)
                stack.extend(edges.get(unit, ()))
        return needed

    def _factor_nodes(self, segment: Segment) -> Iterable[fx.Node]:
        """Host numbers that an extent's expression names."""
        names = {text for v in segment.values for text in v.factors.values()}
        return [node for leaf, node in self.maker.items() if leaf.op == HOST_NUMBER and leaf.text in names]


def _order(edges: dict[object, set[object]]) -> list[object] | None:
    """The units sorted so that each comes after what it needs, None where that is impossible."""
    done: dict[object, bool] = {}
    result: list[object] = []

    def visit(unit: object) -> bool:
        if unit in done:
            return done[unit]
        done[unit] = False
        if not all(visit(need) for need in edges.get(unit, ())):
            return False
        done[unit] = True
        result.append(unit)
        return True

    return result if all(visit(unit) for unit in list(edges)) else None


def _worthwhile(segment: Segment, least: int) -> bool:
    computes = any(v.op in (REDUCE, SCAN) or (v.op != VIEW and v.args) for v in segment.values)
    return computes and segment.numel >= least and any(v.op == TENSOR or v.args for v in segment.inputs)
