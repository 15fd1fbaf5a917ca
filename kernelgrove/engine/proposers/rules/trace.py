"""Trace a reference into an fx graph whose every node knows its value's shape and dtype.

``torch.fx`` keeps sizes symbolic (``x.shape[0]`` stays an expression), so that a program made from the graph holds
at other sizes. Where Python needs a number (a branch, ``range``, ``math.sqrt``), the value at hand decides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import fx

from .load import Reference, redirect

#: A reference that unrolls past this many operations is left alone: fusing it is no job for rules.
MAX_NODES = 500


class Untraceable(Exception):
    """The reference cannot be turned into a graph; the message says why, in words for the user."""


class Hinted(fx.Proxy):
    """A proxy that knows its value, so that Python's own questions have answers."""

    def hint(self) -> Any:
        return self.node.meta["val"]

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return HintedAttribute(self, name)

    def __iter__(self) -> Iterator[Any]:
        value = self.hint()
        return iter([operator.getitem(cast(Any, self), index) for index in range(len(value))])

    def __len__(self) -> int:
        return len(self.hint())

    def __bool__(self) -> bool:
        return bool(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return operator.index(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> Any:
        value = self.hint()
        if isinstance(value, torch.Tensor):
            raise Untraceable("its forward branches on the values of a tensor")
        return value


class HintedAttribute(fx.proxy.Attribute, Hinted):
    """``proxy.name``: a node only where it is not the start of a method call."""


class Tracer(fx.Tracer):
    """Records a forward while running it on the reference's own (meta) values."""

    proxy_buffer_attributes = True

    def __init__(self, inputs: dict[str, Any], defaults: dict[str, Any], device: str) -> None:
        super().__init__()
        self._device = device
        self._inputs = inputs
        self._defaults = defaults
        self._evaluating = False

    def call_module(self, m: Any, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return forward(*args, **kwargs) if self._evaluating else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Hinted(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
        proxy_factory_fn: Callable[[fx.Node], fx.Proxy] | None = None,
    ) -> Any:
        if kind == "placeholder" and target in self._defaults:
            super().create_proxy(kind, target, args, kwargs, name, type_expr).node.meta["val"] = None
            return self._defaults[target]  # an argument that get_inputs() does not give is a constant
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if len(self.graph.nodes) > MAX_NODES:
            raise Untraceable(f"its forward unrolls to more than {MAX_NODES} operations")
        node = proxy.node
        if "val" not in node.meta:
            self._evaluating = True
            try:
                with redirect(self._device):
                    node.meta["val"] = self._value(node)
            finally:
                self._evaluating = False
        return proxy

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._inputs[str(node.target)]
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target)).forward(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "call_function" and callable(node.target):
            return node.target(*args, **kwargs)
        return None


def trace(reference: Reference) -> fx.Graph:
    """The graph of ``reference.model.forward``; each node's ``meta["val"]`` is its value.

    Raises Untraceable, saying why. Not thread-safe: fx patches ``nn.Module`` while it traces.
    """
    import inspect

    try:
        signature = inspect.signature(reference.model.forward)
        parameters = list(signature.parameters.values())
    except (TypeError, ValueError) as error:
        raise Untraceable("its forward has no plain signature") from error
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        raise Untraceable("its forward takes *args, **kwargs or keyword-only arguments")
    names = [p.name for p in parameters]
    given = dict(zip(names, reference.inputs, strict=False))
    defaults = {p.name: p.default for p in parameters if p.name not in given}
    if len(reference.inputs) > len(names) or any(value is inspect.Parameter.empty for value in defaults.values()):
        raise Untraceable("get_inputs() does not fit its forward")
    defaults.update({name: value for name, value in given.items() if value is None or isinstance(value, bool | str)})
    tracer = Tracer(given, defaults, reference.device)
    try:
        with torch.no_grad(), torch.device(reference.device):
            graph = tracer.trace(reference.model)
    except Untraceable:
        raise
    except Exception as error:  # a reference may do anything; whatever stops the trace is the answer
        line = str(error).strip().splitlines()
        raise Untraceable(f"tracing stopped at {type(error).__name__}: {line[0] if line else ''}".strip()) from error
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            raise Untraceable("its forward makes a constant tensor of its own")
        if node.op == "output":
            node.meta["val"] = None
    return graph
