"""A whole program: the kernels, and the reference's class with a forward that calls them.

What was not recognised is called in PyTorch as the reference does.
"""

from __future__ import annotations

import builtins
import operator
import re
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ..graph import TENSOR, Value
from ..lower import module_text
from ..patterns import Recognised
from ..plan import Plan
from ..space import Segment
from .expressions import helpers
from .kernel import Emitted, Frame
from .pointwise import pointwise
from .rows import fitted, rows
from .source import rewrite
from .split import split

_INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.matmul: "@", operator.eq: "==", operator.ne: "!=",
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.and_: "&", operator.or_: "|",
    operator.iadd: "+", operator.isub: "-", operator.imul: "*", operator.itruediv: "/",
}  # fmt: skip


def kind(segment: Segment) -> str:
    """What a segment is called: ``rows``, ``scan`` or ``pointwise``."""
    return "scan" if segment.scans else "rows" if segment.reduces else "pointwise"


def planes_of(segment: Segment) -> Segment | None:
    """A pointwise segment as rows: cut where its broadcast operands begin or end, None where no cut serves them."""
    every = set(range(len(segment.sizes)))
    cuts = set()
    for value in segment.inputs:
        atoms = segment.atoms(value)
        if not atoms or set(atoms) == every:
            continue
        if set(atoms) == set(range(atoms[0], len(segment.sizes))):
            cuts.add(atoms[0])
        else:
            cuts.add(atoms[-1] + 1)
    if len(cuts) != 1 or not 0 < (cut := cuts.pop()) < len(segment.sizes):
        return None
    return replace(segment, columns=(cut, len(segment.sizes)))


def program(recognised: Recognised, source: str, plan: Plan, sms: int) -> str:
    """The program for *plan*, header included. Raises NoClass where the reference has no class to build on."""
    writer = _Writer(recognised)
    emitted: list[Emitted] = []
    for index, segment in enumerate(recognised.segments):
        family = kind(segment)
        several = sum(kind(other) == family for other in recognised.segments) > 1
        name = f"fused_{family}_{index}" if several else f"fused_{family}"
        reuse = reusable(recognised, segment) if plan.in_place else None
        emitted.append(_emit(segment, plan, name, sms, reuse))
        writer.names[segment] = name
    forward = writer.forward()
    parts = rewrite(source, forward)
    imports = _imports(parts.imports, "\n".join(forward))
    used = helpers({helper for item in emitted for helper in item.helpers})
    kernels = [block for item in emitted for block in (*item.kernels, item.host)]
    blocks = [*([parts.support] if parts.support else []), *used, *kernels, parts.model]
    return f"{plan.header()}\n{imports}\n\n\n" + "\n\n".join(block.rstrip() + "\n" for block in blocks)


def _emit(segment: Segment, plan: Plan, name: str, sms: int, reuse: Value | None) -> Emitted:
    if segment.columns is None:
        planes = planes_of(segment) if plan.planes else None
        if planes is None:
            return pointwise(segment, plan, name, sms, reuse)
        flat = plan.change(
            style="whole", rows=1, warps=plan.point_warps, persistent=plan.point_persistent, tile=plan.block
        )
        return rows(planes, fitted(planes, flat), name, sms, reuse)
    fit = fitted(segment, plan)
    if fit.style == "split":
        return split(segment, fit, name, reuse)
    return rows(segment, fit, name, sms, reuse)


def reusable(recognised: Recognised, segment: Segment) -> Value | None:
    """An input that PyTorch made for this segment alone, of the layout of its output: its memory may be reused."""
    lowered = recognised.lowered
    outputs = segment.full_outputs()
    if len(outputs) != 1:
        return None
    for node, value in lowered.value.items():
        if value not in segment.inputs or not value.fresh or node in lowered.body:
            continue
        private = all(user in lowered.body and set(lowered.body[user]) <= set(segment.values) for user in node.users)
        if private and Frame(segment).same_layout(value, outputs[0]):
            return value
    return None


def _imports(original: str, forward: str) -> str:
    """The reference's imports and those that the kernels need."""
    lines = original.splitlines()
    wanted = ["import torch", "import triton", "import triton.language as tl"]
    if re.search(r"\bmath\.", forward):
        wanted.insert(0, "import math")
    return "\n".join([*lines, *(line for line in wanted if line not in lines)])


class _Writer:
    """The statements of forward."""

    def __init__(self, recognised: Recognised) -> None:
        self.recognised = recognised
        self.lowered = recognised.lowered
        self.names: dict[Segment, str] = {}
        self._taken = {node.name for node in self.lowered.graph.nodes} | set(dir(builtins))
        self._held: dict[Value, str] = {v: n.name for n, v in self.lowered.value.items() if n in self.lowered.body}
        self._numbers = {node.name: node for node in self.lowered.graph.nodes}

    def forward(self) -> list[str]:
        lines = []
        for step in self.recognised.steps:
            if isinstance(step, Segment):
                lines.append(self._call(step))
            elif step.op == "output":
                lines.append(f"return {self.text(step.args[0])}")
            elif not self._inline(step) and not _is_size(step):
                lines.append(f"{step.name} = {self.expression(step)}")
        return lines

    def _call(self, segment: Segment) -> str:
        frame = Frame(segment)
        arguments = [self._value(v) for v in (*segment.inputs, *segment.numbers)]
        for text in frame.texts:
            arguments.append(self.text(self._numbers[text]) if text in self._numbers else text)
        targets = ", ".join(self._value(v) for v in segment.outputs)
        return f"{targets} = {self.names[segment]}({', '.join(arguments)})"

    def _value(self, value: Value) -> str:
        """The host expression of a tensor or number that goes into or comes out of a kernel."""
        if value in self._held:
            return self._held[value]
        if value.op == TENSOR or value.text:
            return self.text(self._numbers[value.text]) if value.text in self._numbers else value.text
        stem = value.name or value.op
        name, count = stem, 1
        while name in self._taken:
            name, count = f"{stem}_{count}", count + 1
        self._taken.add(name)
        self._held[value] = name
        return name

    def _inline(self, node: fx.Node) -> bool:
        """Numbers, sizes and attributes are written where they are used."""
        return node.op in ("placeholder", "get_attr") or not isinstance(
            node.meta.get("val"), torch.Tensor | tuple | list
        )

    def text(self, argument: Any) -> str:
        """An argument as Python source."""
        if isinstance(argument, fx.Node):
            if argument in self.lowered.body:
                return argument.name
            if argument.op == "placeholder":
                return str(argument.target)
            if not self._inline(argument) and not _is_size(argument):
                return argument.name
            text = self.expression(argument)
            return f"({text})" if " " in text and not text.endswith(")") else text
        if isinstance(argument, tuple):
            inner = ", ".join(self.text(a) for a in argument)
            return f"({inner},)" if len(argument) == 1 else f"({inner})"
        if isinstance(argument, list):
            return f"[{', '.join(self.text(a) for a in argument)}]"
        if isinstance(argument, dict):
            return "{" + ", ".join(f"{k!r}: {self.text(v)}" for k, v in argument.items()) + "}"
        if isinstance(argument, slice):
            return f"slice({self.text(argument.start)}, {self.text(argument.stop)}, {self.text(argument.step)})"
        if isinstance(argument, float) and argument in (float("inf"), float("-inf")):
            return f'float("{argument}")'
        if isinstance(argument, torch.device):
            return f'torch.device("{argument}")'
        return "..." if argument is Ellipsis else repr(argument)

    def expression(self, node: fx.Node) -> str:
        """What PyTorch is asked to do at *node*."""
        args = [self.text(a) for a in node.args]
        named = [f"{k}={self.text(v)}" for k, v in node.kwargs.items()]
        if node.op == "get_attr":
            return module_text(str(node.target))
        if node.op == "call_module":
            module = module_text(str(node.target))
            if node.meta.get("no_bias"):
                return f"{module}._conv_forward({args[0]}, {module}.weight, None)"
            return f"{module}({', '.join([*args, *named])})"
        if node.op == "call_method":
            # a fused result is contiguous where PyTorch's may keep its argument's strides: reshape serves both
            method = "reshape" if node.target == "view" else str(node.target)
            return f"{args[0]}.{method}({', '.join([*args[1:], *named])})"
        if node.target is getattr:
            return f"{args[0]}.{node.args[1]}"
        if node.target is operator.getitem:
            return f"{args[0]}[{_index(self, node.args[1])}]"
        if node.target in _INFIX:
            return f"{args[0]} {_INFIX[node.target]} {args[1]}"
        if node.target is operator.neg:
            return f"-{args[0]}"
        return f"{fx.node._get_qualified_name(node.target)}({', '.join([*args, *named])})"  # type: ignore[arg-type]


def _is_size(node: fx.Node) -> bool:
    """``x.shape`` and ``x.size()``: tuples, but written where they are used."""
    return isinstance(node.meta.get("val"), torch.Size)


def _index(writer: _Writer, index: Any) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join(_slice(writer, part) for part in parts)


def _slice(writer: _Writer, part: Any) -> str:
    if not isinstance(part, slice):
        return writer.text(part)
    text = (
        f"{'' if part.start is None else writer.text(part.start)}:{'' if part.stop is None else writer.text(part.stop)}"
    )
    return text if part.step is None else f"{text}:{writer.text(part.step)}"
