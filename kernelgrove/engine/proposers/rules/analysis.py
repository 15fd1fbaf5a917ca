"""A problem as the rules see it: its reference traced at the sizes at hand, and cut into segments.

A program has to hold at the size that is timed and at the size that is checked, so both are traced, and the rules
speak only where both give the same program.
"""

from __future__ import annotations

import math
import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from kernelgrove.model import Instance, digest

from .load import Reference, load
from .patterns import Recognised, recognise
from .space import Segment
from .trace import Untraceable, trace

#: fx patches ``nn.Module`` while it traces, so one trace at a time.
_LOCK = threading.Lock()
_KEPT = 16
_CACHE: OrderedDict[tuple[str, str, str], Analysis] = OrderedDict()


@dataclass(frozen=True)
class Analysis:
    """``plain`` and, where a convolution's bias can go into a kernel, ``folded``; ``problem`` says in words why
    nothing was recognised ("" where something was)."""

    source: str
    plain: Recognised | None
    folded: Recognised | None
    problem: str = ""
    summary: str = ""

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.plain.segments if self.plain else ()

    def recognised(self, fold_bias: bool) -> Recognised | None:
        return self.folded if fold_bias and self.folded else self.plain


def analyse(instance: Instance) -> Analysis:
    """The analysis of *instance*, from memory where it was made before. Thread-safe."""
    key = (digest(instance.source), digest(instance.check_source), instance.mode)
    with _LOCK:
        if key not in _CACHE:
            _CACHE[key] = _analyse(instance)
            while len(_CACHE) > _KEPT:
                _CACHE.popitem(last=False)
        _CACHE.move_to_end(key)
        return _CACHE[key]


def _analyse(instance: Instance) -> Analysis:
    try:
        plain = _recognised(instance, fold_bias=False)
    except Untraceable as error:
        return Analysis(instance.source, None, None, str(error))
    summary = _summary(plain)
    if not plain.segments:
        return Analysis(instance.source, plain, None, f"the module is {summary}", summary)
    folded = None
    if any(node.op == "call_module" and _biased(plain, node) for node in plain.lowered.graph.nodes):
        try:
            folded = _recognised(instance, fold_bias=True)
        except Untraceable:
            folded = None
        if folded is not None and len(folded.segments) > len(plain.segments):
            folded = None  # the bias would need a kernel of its own
    return Analysis(instance.source, plain, folded, "", summary)


def _biased(plain: Recognised, node: fx.Node) -> bool:
    return str(node.meta.get("module", "")) in _CONVOLUTIONS and bool(node.meta.get("biased"))


_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")


def _recognised(instance: Instance, fold_bias: bool) -> Recognised:
    """Recognise at full size, and see that the size checked gives the same. Raises Untraceable."""
    full, graph = _traced(instance.source, instance.mode, fold_bias)
    if instance.check_source == instance.source:
        return recognise(graph, full.model)
    small, other = _traced(instance.check_source, instance.mode, fold_bias)
    _reconcile(graph, full, other, small)
    result = recognise(graph, full.model)
    check = recognise(other, small.model, like=result)
    if [s.signature() for s in result.segments] != [s.signature() for s in check.segments]:
        raise Untraceable("it takes another shape at the size that is checked")
    return result


def _traced(source: str, mode: str, fold_bias: bool) -> tuple[Reference, fx.Graph]:
    """Trace on meta tensors; where the reference needs real ones, on the CPU."""
    try:
        reference = load(source, mode, "meta")
    except Exception as error:
        raise Untraceable(f"it cannot be built without data ({type(error).__name__}: {error})") from error
    graph = trace(reference)
    _mark_modules(graph, reference.model)
    _refuse_mutation(graph)
    if fold_bias:
        _fold_biases(graph, reference.model)
    return reference, graph


def _mark_modules(graph: fx.Graph, model: torch.nn.Module) -> None:
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            node.meta["module"] = type(module).__name__
            node.meta["biased"] = getattr(module, "bias", None) is not None
            node.meta["in_place"] = bool(getattr(module, "inplace", False))


def _refuse_mutation(graph: fx.Graph) -> None:
    """Operations in place are as good as others only where nobody else holds what they change."""
    for node in graph.nodes:
        name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
        marked = name.endswith("_") and not name.endswith("__")
        augmented = node.op == "call_function" and name in ("iadd", "isub", "imul", "itruediv", "setitem")
        if not (marked or augmented or node.kwargs.get("inplace") or node.meta.get("in_place")):
            continue
        held = node.args[0] if node.args else None
        while isinstance(held, fx.Node):
            if held.op in ("placeholder", "get_attr") or len(held.users) > 1:
                raise Untraceable("its forward changes a tensor in place that something else reads")
            shares = held.op == "call_method" or held.target is operator.getitem
            held = held.args[0] if shares and held.args else None


def _fold_biases(graph: fx.Graph, model: torch.nn.Module) -> None:
    """Write every convolution as one without bias and an addition, which a kernel can take in."""
    for node in list(graph.nodes):
        if node.op != "call_module" or node.meta["module"] not in _CONVOLUTIONS or not node.meta["biased"]:
            continue
        users = list(node.users)
        value = node.meta["val"]
        with graph.inserting_after(node):
            bias = graph.get_attr(f"{node.target}.bias")
            bias.meta["val"] = model.get_parameter(f"{node.target}.bias")
        with graph.inserting_after(bias):
            shape = (-1, *(1 for _ in value.shape[2:]))
            view = graph.call_method("view", (bias, *shape))
            view.meta["val"] = bias.meta["val"].view(shape)
        with graph.inserting_after(view):
            added = graph.call_function(operator.add, (node, view))
            added.meta["val"] = value
        for user in users:
            user.replace_input_with(node, added)
        node.meta["no_bias"] = True


# ------------------------------------------------------------------------------- one program for two sizes

_DERIVED: tuple[tuple[Callable[[Any], float], Callable[[fx.Graph, fx.Node], fx.Node]], ...] = (
    (lambda v: v**-0.5, lambda graph, node: graph.call_function(operator.pow, (node, -0.5))),
    (lambda v: v**0.5, lambda graph, node: graph.call_function(operator.pow, (node, 0.5))),
    (lambda v: 1 / v, lambda graph, node: graph.call_function(operator.truediv, (1, node))),
)


def _reconcile(graph: fx.Graph, full: Reference, other: fx.Graph, small: Reference) -> None:
    """Replace constants that differ between the two traces by the attribute of the model that they come from.

    Raises Untraceable where the traces differ in more than constants, or a constant comes from nowhere.
    """
    nodes, others = list(graph.nodes), list(other.nodes)
    if len(nodes) != len(others) or any(
        a.op != b.op or str(a.target) != str(b.target) for a, b in zip(nodes, others, strict=True)
    ):
        raise Untraceable("its forward takes another path at the size that is checked")
    for a, b in zip(nodes, others, strict=True):
        pairs = [
            (x, y) for x, y in zip(_numbers((a.args, a.kwargs)), _numbers((b.args, b.kwargs)), strict=False) if x != y
        ]
        for large, little in pairs:
            _replace(graph, a, large, _origin(graph, a, full, small, (large, little), 0))
            _replace(other, b, little, _origin(other, b, full, small, (large, little), 1))


def _numbers(argument: Any) -> Iterator[float]:
    if isinstance(argument, bool):
        return
    if isinstance(argument, int | float):
        yield argument
    elif isinstance(argument, dict):
        for key in sorted(argument):
            yield from _numbers(argument[key])
    elif isinstance(argument, list | tuple):
        for item in argument:
            yield from _numbers(item)
    elif isinstance(argument, slice):
        yield from _numbers((argument.start, argument.stop, argument.step))


def _attributes(model: torch.nn.Module) -> Iterator[tuple[str, float]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("_"):
                yield (f"{path}.{name}" if path else name), value


def _origin(
    graph: fx.Graph, node: fx.Node, full: Reference, small: Reference, pair: tuple[float, float], which: int
) -> fx.Node:
    """A node before *node* for the number that is ``pair[0]`` at full size and ``pair[1]`` at the other."""
    less = dict(_attributes(small.model))
    values = {path: (value, less[path]) for path, value in _attributes(full.model) if path in less}
    with graph.inserting_before(node):
        equal = next((path for path, both in values.items() if _same(both, pair)), None)
        if equal is not None:
            return _attribute(graph, equal, values[equal][which])
        for path, both in values.items():
            for compute, write in _DERIVED:
                if all(v > 0 for v in both) and _same((compute(both[0]), compute(both[1])), pair):
                    derived = write(graph, _attribute(graph, path, both[which]))
                    derived.meta["val"] = pair[which]
                    return derived
    raise Untraceable(f"a constant ({pair[0]:g}) depends on the size in a way that its text does not show")


def _attribute(graph: fx.Graph, path: str, value: float) -> fx.Node:
    node = graph.get_attr(path)
    node.meta["val"] = value
    return node


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-12) for x, y in zip(a, b, strict=True))


def _replace(graph: fx.Graph, node: fx.Node, number: float, by: fx.Node) -> None:
    """Put *by* where *node* has the number."""

    def swap(argument: Any) -> Any:
        if isinstance(argument, int | float) and not isinstance(argument, bool) and argument == number:
            return by
        if isinstance(argument, dict):
            return {key: swap(value) for key, value in argument.items()}
        if isinstance(argument, list | tuple):
            return type(argument)(swap(value) for value in argument)
        if isinstance(argument, slice):
            return slice(swap(argument.start), swap(argument.stop), swap(argument.step))
        return argument

    node.args, node.kwargs = swap(node.args), swap(node.kwargs)


#: What to call the operations that are left to libraries, by a part of their name.
_SAID = {
    "conv": "convolution",
    "linear": "matrix product",
    "matmul": "matrix product",
    "mm": "matrix product",
    "lstm": "recurrent layer",
    "gru": "recurrent layer",
    "pool": "pooling",
    "attention": "attention",
}


def _summary(plain: Recognised) -> str:
    """What PyTorch is left with, in words: "one convolution"."""
    calls: list[str] = []
    for node in plain.lowered.graph.nodes:
        if node in plain.lowered.body or node.op not in ("call_module", "call_function", "call_method"):
            continue
        name = node.meta.get("module") or getattr(node.target, "__name__", str(node.target))
        said = next((words for key, words in _SAID.items() if key in str(name).lower()), "")
        if said:
            calls.append(said)
    if not calls:
        return "no chain of operations that it knows"
    kinds = list(dict.fromkeys(calls))
    parts = [
        f"{'one' if calls.count(k) == 1 else calls.count(k)} {k}{'' if calls.count(k) == 1 else 's'}" for k in kinds
    ]
    return " and ".join(parts)
