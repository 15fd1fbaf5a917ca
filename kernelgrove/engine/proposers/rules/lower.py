"""From fx nodes to values: which spelling of PyTorch is which operation.

``Lowering`` goes over the graph once. A node that a handler understands gets a value and the *body* of values that
make it up; any other node is a tensor (or number) that the host code computes with PyTorch as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import fx

from .graph import FLOATS, HOST_NUMBER, REDUCE, SCAN, TENSOR, VIEW, Value, broadcast, number

#: Handlers by the name PyTorch gives the operation: functions, methods and module classes alike.
Handler = Callable[["Call"], "Value | None"]
HANDLERS: dict[str, Handler] = {}


class NotHandled(Exception):
    """A handler meets arguments that it does not cover; the node stays in PyTorch."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


@dataclass
class Lowered:
    """A whole graph. ``value`` maps each fx node to its value; ``body`` a lowered node to all values it is made of
    (arguments before users); nodes without a body are the host's."""

    graph: fx.Graph
    value: dict[fx.Node, Value] = field(default_factory=dict)
    body: dict[fx.Node, list[Value]] = field(default_factory=dict)


class Call:
    """One fx node, as a handler sees it: arguments by position or name, and constructors for values. ``name`` is how
    handlers are found."""

    def __init__(self, lowered: Lowered, node: fx.Node, module: torch.nn.Module | None) -> None:
        self.lowered = lowered
        self.node = node
        self.module = module
        self.name = plainly(spelled(node, module))
        self.made: list[Value] = []

    # ------------------------------------------------------------------------------------------ arguments

    def raw(self, index: int, name: str = "", default: Any = None) -> Any:
        """The argument as fx has it; nodes that hold plain numbers stay nodes."""
        if index < len(self.node.args):
            return self.node.args[index]
        return self.node.kwargs.get(name, default)

    def plain(self, index: int, name: str = "", default: Any = None) -> Any:
        """An argument that must be known now: a dimension, a flag. Numbers of the graph become their value."""
        value = self.raw(index, name, default)
        if isinstance(value, fx.Node) and isinstance(value.meta["val"], torch.Tensor):
            raise NotHandled
        return fx.node.map_arg(value, lambda n: n.meta["val"])

    def value(self, index: int, name: str = "", default: Any = None) -> Value:
        """A tensor or number as a value. Raises NotHandled for anything else."""
        return self.lift(self.raw(index, name, default))

    def lift(self, raw: Any) -> Value:
        if isinstance(raw, fx.Node):
            return self.lowered.value[raw] if raw in self.lowered.value else self._refuse()
        if isinstance(raw, bool | int | float):
            return number(raw)
        return self._refuse()

    def _refuse(self) -> Value:
        raise NotHandled

    @property
    def result(self) -> Any:
        return self.node.meta["val"]

    def attribute(self, name: str) -> Value:
        """A parameter or buffer of the called module."""
        tensor = getattr(self.module, name)
        text = f"{module_text(str(self.node.target))}.{name}"
        return Value(TENSOR, shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype), text=text, name=name)

    # --------------------------------------------------------------------------------------- constructors

    def make(self, value: Value) -> Value:
        self.made.append(value)
        return value

    def op(self, name: str, *args: Value | float | int | bool) -> Value:
        """A pointwise operation on broadcast arguments."""
        values = tuple(a if isinstance(a, Value) else number(a) for a in args)
        shape = broadcast(a.shape for a in values)
        boolean = name in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")
        return self.make(Value(name, values, shape, "bool" if boolean else "float32", name=name))

    def reduce(self, kind: str, value: Value, dims: tuple[int, ...], keep: bool) -> Value:
        """``sum mean max min argmax argmin`` over *dims*."""
        rank = len(value.shape)
        dims = tuple(sorted({d % rank for d in dims})) if rank else ()
        if not dims or not any(value.shape[d] > 1 for d in dims):
            raise NotHandled
        if keep:
            shape = tuple(1 if i in dims else s for i, s in enumerate(value.shape))
        else:
            shape = tuple(s for i, s in enumerate(value.shape) if i not in dims)
        dtype = "int64" if kind.startswith("arg") else "float32"
        return self.make(Value(REDUCE, (value,), shape, dtype, name=kind, kind=kind, dims=dims))

    def scan(self, kind: str, value: Value, dim: int, reverse: bool = False) -> Value:
        dim %= len(value.shape)
        return self.make(Value(SCAN, (value,), value.shape, name=f"cum{kind}", kind=kind, dims=(dim,), reverse=reverse))

    def view(self, value: Value, shape: tuple[int, ...], factors: dict[int, str] | None = None) -> Value:
        if prod(shape) != value.numel:
            raise NotHandled
        return self.make(Value(VIEW, (value,), shape, value.dtype, name=value.name, factors=factors or {}))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def module_text(target: str) -> str:
    """``net.0.weight`` as Python: ``self.net[0].weight``."""
    return "self" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in target.split("."))


def spelled(node: fx.Node, module: torch.nn.Module | None) -> str:
    """The name handlers are found by: ``relu`` for ``torch.relu``, ``F.relu``, ``x.relu()``; ``ReLU`` for a module."""
    if module is not None:
        return type(module).__name__ if type(module).__module__.startswith("torch.nn.") else ""
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function":
        origin = str(getattr(node.target, "__module__", "") or "")
        if origin.split(".")[0] in ("torch", "_operator", "operator", "builtins", "math", ""):
            return str(getattr(node.target, "__name__", ""))
    return ""


def plainly(name: str) -> str:
    """The operation without its mark of working in place: ``relu_`` is ``relu``, ``iadd`` is ``add``."""
    in_place = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv", "ipow": "pow"}
    return in_place.get(name) or (name[:-1] if name.endswith("_") and not name.endswith("__") else name)


def lower(graph: fx.Graph, root: torch.nn.Module, host: frozenset[fx.Node] = frozenset()) -> Lowered:
    """Find a value for every node of *graph*. Never fails: what is not understood, or is in *host*, is the host's."""
    from . import composite, elementwise  # noqa: F401  (they register the handlers)

    lowered = Lowered(graph)
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        call = Call(lowered, node, module)
        value = _handled(call) if node not in host else None
        if value is not None:
            lowered.value[node] = value
            lowered.body[node] = call.made
        elif (leaf := _host(node, call.name)) is not None:
            lowered.value[node] = leaf
    return lowered


def _handled(call: Call) -> Value | None:
    result = call.node.meta.get("val")
    handler = HANDLERS.get(call.name)
    if handler is None or not isinstance(result, torch.Tensor):
        return None
    if dtype_name(result.dtype) not in (*FLOATS, "bool", "int64"):
        return None
    try:
        value = handler(call)
    except (NotHandled, ValueError, IndexError, AttributeError, TypeError):
        return None
    if value is None or not call.made or value not in call.made or value.shape != tuple(result.shape):
        return None
    if any(leaf.op == TENSOR and leaf.dtype in ("float64", "complex64") for v in call.made for leaf in v.args):
        return None
    if (value.dtype == "float32") != (dtype_name(result.dtype) in FLOATS):
        return None  # integer arithmetic: not for kernels that compute in fp32
    value.dtype = dtype_name(result.dtype)
    value.name = call.node.name
    return value


def _host(node: fx.Node, name_of_call: str) -> Value | None:
    """The leaf that stands for what the host code computes."""
    result = node.meta.get("val")
    if isinstance(result, torch.Tensor):
        name, text = node.name, node.name
        if node.op == "get_attr":
            name, text = str(node.target).rsplit(".", 1)[-1], module_text(str(node.target))
        elif node.op == "placeholder":
            name = text = str(node.target)
        dtype = dtype_name(result.dtype)
        return Value(TENSOR, (), tuple(result.shape), dtype, name=name, text=text, fresh=name_of_call in _MAKERS)
    if isinstance(result, bool):
        return None
    if isinstance(result, int | float):
        text = module_text(str(node.target)) if node.op == "get_attr" else node.name
        return Value(HOST_NUMBER, text=text, name=node.name, number=result)
    return None


#: Library calls whose result is new memory that a fused kernel may overwrite.
_MAKERS = {
    *("matmul", "mm", "bmm", "addmm", "linear", "Linear"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
}
