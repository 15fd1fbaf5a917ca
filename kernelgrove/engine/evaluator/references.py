"""The reference in the judge: secret inputs, weights and what they should give, computed once a case.

Seeds are drawn from the system's randomness when a reference is first used, and live in this process only.
"""

from __future__ import annotations

import copy
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernelgrove.errors import EvaluatorError
from kernelgrove.model import Instance
from kernelgrove.problems.reference import Reference

from .candidate import set_precision
from .correctness import Expected, expect
from .projection.reductions import CONVOLUTIONS, PRODUCTS, LongestReduction, op_name
from .structure import flatten, pack


@dataclass(frozen=True)
class Weights:
    """One draw: the seed that constructs both sides, and the reference's state under it."""

    seed: int
    model: torch.nn.Module
    state: list[tuple[str, torch.Tensor]]


@dataclass(frozen=True)
class Case:
    """One set of inputs: their master copies, the pickled structure around them, and the outputs expected."""

    weights: Weights
    forward_seed: int
    masters: list[torch.Tensor]
    packed: bytes
    mutable: frozenset[int]  # inputs that the reference itself changes
    expected: list[Expected]
    bytes: int


class JudgedReference:
    """A reference on one device under one precision policy. Thread-safe; cases are kept within a byte budget."""

    def __init__(self, instance: Instance, device: str, precision: str, budget_bytes: int) -> None:
        self.instance = instance
        self.device = device
        self.precision = precision
        self.reference = Reference(instance.check_source, instance.name, instance.mode)
        self._lock = threading.Lock()
        self._seeds = [secrets.randbits(62) for _ in range(64)]
        self._weight_seeds = [secrets.randbits(31), secrets.randbits(31)]
        self._weights: dict[int, Weights] = {}
        self._cases: OrderedDict[int, Case] = OrderedDict()
        self._budget = budget_bytes
        self._random: bool | None = None
        self.init_tensors: list[torch.Tensor] = []
        self.init_packed = pack(self.reference.init_inputs(), _is_tensor, self.init_tensors)

    def weights(self, draw: int) -> Weights:
        """Draw 0 or 1 of the weights."""
        if draw not in self._weights:
            seed = self._weight_seeds[draw]
            model = self.reference.make(seed, self.device)
            state = [(name, value.detach().clone()) for name, value in model.state_dict().items()]
            self._weights[draw] = Weights(seed, model, state)
        return self._weights[draw]

    def case(self, number: int, draw: int = 0) -> Case:
        """Case *number* (0 to 31) under weights *draw*; the same numbers give the same case while it is kept."""
        key = number * 2 + draw
        with self._lock:
            if key in self._cases:
                self._cases.move_to_end(key)
                return self._cases[key]
            case = self._make(self._seeds[key], self.weights(draw))
            self._cases[key] = case
            while len(self._cases) > 1 and sum(kept.bytes for kept in self._cases.values()) > self._budget:
                self._cases.popitem(last=False)
            return case

    def _make(self, seed: int, weights: Weights) -> Case:
        inputs = self.reference.inputs(seed, self.device)
        masters: list[torch.Tensor] = []
        packed = pack(inputs, _is_tensor, masters)
        used = _clone(inputs)
        forward_seed = seed % (1 << 31)
        reduction = _Operators()
        with reduction:
            own = self._forward(weights, used, forward_seed)
        before, after = masters, [leaf for _, leaf in flatten(used) if _is_tensor(leaf)]
        mutable = frozenset(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not identical(a, b))
        if self._random is None:
            again = self._forward(weights, _clone(inputs), forward_seed + 1)
            pairs = zip(flatten(own), flatten(again), strict=True)
            self._random = any(_is_tensor(a) and not _close(a, b) for (_, a), (_, b) in pairs)
        exact = None if self._random else self._exact(weights, inputs, forward_seed)
        exact_leaves: Sequence[tuple[str, Any]] = flatten(exact) if exact is not None else []
        arithmetic = _arithmetic(self.precision, self.device, reduction)
        expected = []
        for index, (path, leaf) in enumerate(flatten(own)):
            wanted = exact_leaves[index][1] if exact is not None else None
            expected.append(expect(path, leaf, wanted, reduction.k, arithmetic, self._random))
        held = sum(t.numel() * t.element_size() for t in masters)
        held += sum(e.exact.numel() * e.exact.element_size() for e in expected if e.exact is not None)
        return Case(weights, forward_seed, masters, packed, mutable, expected, held)

    def _forward(self, weights: Weights, inputs: Sequence[Any], seed: int) -> Any:
        with torch.no_grad():
            own = weights.model.state_dict()
            for name, value in weights.state:
                own[name].copy_(value)
            torch.manual_seed(seed)
            return weights.model(*inputs)

    def _exact(self, weights: Weights, inputs: Sequence[Any], seed: int) -> Any:
        """The reference in fp64, or None where it cannot run so (its own casts, no memory)."""
        try:
            need = sum(t.numel() for _, t in flatten(list(inputs)) if _is_tensor(t)) * 8 * 6
            if self.device.startswith("cuda") and need > torch.cuda.mem_get_info(self.device)[0]:
                return None
            model = copy.deepcopy(weights.model)
            own = model.state_dict()
            with torch.no_grad():
                for name, value in weights.state:
                    own[name].copy_(value)
                model = model.double()
                torch.manual_seed(seed)
                output = model(*_clone(inputs, torch.float64))
            for _, leaf in flatten(output):
                if _is_tensor(leaf) and leaf.dtype in (torch.float32, torch.float16, torch.bfloat16):
                    return None  # it casts inside: its fp64 is not one
            return output
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None


class References:
    """References by instance and precision, for one device. Thread-safe."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device = device
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], JudgedReference] = OrderedDict()
        self._precision: str | None = None

    def get(self, instance: Instance, precision: str) -> JudgedReference:
        """Raises EvaluatorError where another policy is asked for: PyTorch's flags are the whole process's."""
        with self._lock:
            if self._precision is None:
                set_precision(precision)
                self._precision = precision
            elif precision != self._precision:
                raise EvaluatorError(f"this judge works at --precision {self._precision}, not {precision}.")
            key = (f"{instance.digest}:{instance.key}", precision)
            if key not in self._known:
                self._known[key] = JudgedReference(instance, self.device, precision, self._budget)
                while len(self._known) > 8:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]


class _Operators(LongestReduction):
    """Also tells whether the reference multiplies matrices or convolves: where TF32 may come in."""

    def __init__(self) -> None:
        super().__init__()
        self.matmuls = self.convolutions = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op_name(func)
        self.matmuls = self.matmuls or name in PRODUCTS
        self.convolutions = self.convolutions or name in CONVOLUTIONS
        return super().__torch_dispatch__(func, types, args, kwargs)


def _arithmetic(precision: str, device: str, reduction: _Operators) -> str:
    """The lowest arithmetic that the policy lets the reference's operators use."""
    if precision == "any":
        return "bf16"
    if not device.startswith("cuda") or precision == "strict":
        return "none"
    if reduction.convolutions or (precision == "tf32" and reduction.matmuls):
        return "tf32"
    return "none"


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _clone(value: Any, floating: torch.dtype | None = None) -> Any:
    """A copy of nested inputs, strides kept, floating tensors cast where *floating* is given."""
    if isinstance(value, torch.Tensor):
        copied = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
        copied.copy_(value)
        return copied.to(floating) if floating is not None and value.dtype.is_floating_point else copied
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_clone(item, floating) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_clone(item, floating) for item in value)
    if isinstance(value, dict):
        return {key: _clone(item, floating) for key, item in value.items()}
    return value


def identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.dtype.is_floating_point:
        return bool((a == b).all())
    return bool(torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(a.abs().max().nan_to_num(0.0)), equal_nan=True))
