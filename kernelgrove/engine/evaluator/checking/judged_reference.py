"""The reference in the judge: secret inputs, weights and what they should give, computed once a case.

Seeds are drawn from the system's randomness when a reference is first used, and live in this process only.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch

from kernelgrove.errors import ProblemError
from kernelgrove.model import Instance
from kernelgrove.problems.audit import weaknesses
from kernelgrove.problems.reference import Reference

from ..wire.arena import Spec, torch_dtype
from ..wire.structure import described, flatten, pack
from .arithmetic import Operators, lowest_arithmetic
from .correctness import Expected, compare, expect, expect_random, floor, unravel
from .randomness import DRAWS
from .running import Weights, exact_forward, forward, forward_again, fp64_bytes
from .tensors import clone, close, computable, identical, is_tensor
from .values import expect_value, sensitivities
from .variants import VARIANTS, Variant, apply

#: Draws of the weights: as given, again, and again with what every seed leaves alike changed.
_DRAWS = 3
_DRAWS_AT_MOST = 12  # of inputs, for outputs of the same shapes, or of shapes that there is room for
_VARIED = 3  # inputs that are varied a little to see whether the reference takes them
#: Draws of the outputs that tell which of them are random, once one is.
_LOOKS = 4


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
    exact: bool  # an fp64 reference was possible, and no output is random


class JudgedReference:
    """A reference on one device under one precision policy. Thread-safe; cases are kept within a byte budget."""

    def __init__(self, instance: Instance, device: str, precision: str, budget_bytes: int) -> None:
        self.instance = instance
        self.device = device
        self.precision = precision
        self.reference = Reference(instance.check_source, instance.name, instance.mode)
        self._lock = threading.RLock()
        self._in_use: WeakValueDictionary[int, Case] = WeakValueDictionary()  # no case is there twice
        self._seeds = [secrets.randbits(62) for _ in range(96)]
        self._weight_seeds = [secrets.randbits(31) for _ in range(_DRAWS)]
        self._weights: dict[int, Weights] = {}
        self._cases: OrderedDict[int, Case] = OrderedDict()
        self._variants: dict[tuple[int, int], Case | None] = {}
        self._fitting: set[int] = set()  # variants of which there ever was a case
        self._budget = budget_bytes
        self._exactly = False  # whether there ever was memory for fp64
        self.known = False  # whether there ever was a case, and so memory for one
        self._random: frozenset[str] | None = None  # paths of outputs that differ from draw to draw
        self._stateful: bool | None = None
        self._resizes: bool | None = None
        self._bears: bool | None = None
        self._weaknesses: dict[float | None, list[str]] = {}
        self.moved: int | None = None  # compulsory bytes of a call, once somebody has counted them (timing/physics.py)
        self.init_tensors: list[torch.Tensor] = []
        self.init_packed = pack(self.reference.init_inputs(), is_tensor, self.init_tensors)

    def weights(self, draw: int) -> Weights:
        """Draw 0, 1 or 2 of the weights. Draw 2 changes those that every seed leaves alike (the ones and zeros of a
        norm) too: only a ModelNew that takes weights by name can follow it."""
        with self._lock:
            if draw not in self._weights:
                seed = self._weight_seeds[draw]
                self._weights[draw] = Weights.of(self.reference.make(seed, self.device), seed, disturbed=draw == 2)
            return self._weights[draw]

    def case(self, number: int, draw: int = 0) -> Case:
        """Case *number* (0 to 31) under weights *draw*; the same numbers give the same case while it is kept."""
        key = number * _DRAWS + draw
        with self._lock:
            if key in self._cases:
                self._cases.move_to_end(key)
                return self._cases[key]
            if (used := self._in_use.get(key)) is not None:
                return used
            # A candidate can tell the forward seed (torch.initial_seed()): it must say nothing about the inputs'.
            case = self.case_of(self._inputs(self._seeds[key]), draw, secrets.randbits(31))
            self._cases[key] = self._in_use[key] = case
            while len(self._cases) > 1 and sum(kept.bytes for kept in self._cases.values()) > self._budget:
                self._cases.popitem(last=False)
            return case

    def forget(self, wait: bool = True) -> None:
        """Drop what is kept of cases: another use of the memory is at hand. Without *wait*, not while it computes."""
        if self._lock.acquire(blocking=wait):
            try:
                self._cases.clear()
                self._variants.clear()
            finally:
                self._lock.release()

    def fresh_case(self, draw: int) -> Case:
        """A case on inputs that are drawn for one evaluation, and not kept; its outputs have the shapes of case 0's, if
        a few draws can give them. Where they hang on values, they are as large as they are: what one candidate has seen
        must be of no use to the next."""
        first = self.case(0)
        room = (2 if self.resizes else 1) * _output_bytes(first)  # in who has been loaded
        for _ in range(_DRAWS_AT_MOST):
            case = self.case_of(self.fresh_inputs(), draw, secrets.randbits(31))
            if [expected.spec for expected in case.expected] == [expected.spec for expected in first.expected]:
                return case
            self._resizes = True  # one draw more may have looked like the first by chance
            if _output_bytes(case) <= room:
                return case
        return self.case(0, draw)

    def given_inputs(self, draw: int) -> list[Any]:
        """The inputs of case 0."""
        return self._inputs(self._seeds[draw])

    def fresh_inputs(self) -> list[Any]:
        """Inputs that nobody has seen, from a seed that is used once."""
        return self._inputs(secrets.randbits(62))

    def _inputs(self, seed: int) -> list[Any]:
        """Raises torch.OutOfMemoryError where they do not fit beside what is there now: they did once."""
        try:
            return self.reference.inputs(seed, self.device)
        except ProblemError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            short = str(error.__cause__)
        raise torch.OutOfMemoryError(short)

    def variants(self, draw: int, advice: bool = False) -> Iterator[tuple[Variant, Case]]:
        """Case 0's inputs changed in the ways of ``variants.py``, where the reference is finite, can be computed in
        fp64, and does not depend on the order of its sums: those for a verdict, or those for *advice*. None of a
        problem so large that the judge could not hold a few of them."""
        if self.large:
            return
        for index, variant in enumerate(VARIANTS):
            if variant.advice is advice:
                case = self._variant_case(index, draw)
                if case is not None:
                    yield variant, case

    def _variant_case(self, index: int, draw: int) -> Case | None:
        """Kept only where a case is small: there are eight of them."""
        with self._lock:
            if (index, draw) in self._variants:
                return self._variants[index, draw]
            plain = self.case(0, draw)
            case = self._variant(VARIANTS[index], self.given_inputs(draw), draw, plain) if plain.exact else None
            if case is not None:
                self._fitting.add(index)
            if len(VARIANTS) * plain.bytes <= self._budget // 4:
                self._variants[index, draw] = case
            return case

    @property
    def fitting(self) -> list[Variant]:
        """Those for a verdict on which a candidate was judged, or another before it: what it is timed on may be changed
        so too. None of equal elements, which a GPU may compute faster."""
        found = [VARIANTS[index] for index in sorted(self._fitting)]
        return [variant for variant in found if not variant.advice and not variant.flat]

    def changed_case(self, variant: Variant, changed: list[Any], draw: int) -> Case | None:
        """A case on inputs that *variant* has changed; None where nobody can be held to it."""
        with self._lock:
            return self._changed(variant, changed, draw, self.case(0, draw))

    def _variant(self, variant: Variant, inputs: list[Any], draw: int, plain: Case) -> Case | None:
        changed = apply(variant, inputs)
        before, after = flatten(inputs), flatten(changed)
        if all(
            not is_tensor(a) or (a.stride() == b.stride() and identical(a, b))
            for (_, a), (_, b) in zip(before, after, strict=True)
        ):
            return None
        return self._changed(variant, changed, draw, plain)

    def _changed(self, variant: Variant, changed: list[Any], draw: int, plain: Case) -> Case | None:
        if variant.flat and any(
            e.spec is not None and not torch_dtype(e.spec.dtype).is_floating_point for e in plain.expected
        ):
            return None
        least = max(
            (float(e.exact.abs().max()) for e in plain.expected if e.spec and e.exact is not None and e.exact.numel()),
            default=0.0,
        )
        try:
            case = self.case_of(changed, draw, plain.forward_seed, least if variant.near else 0.0)
        except torch.OutOfMemoryError:  # which a candidate may have taken: no reason to leave it out for good
            raise
        except RuntimeError:  # the reference itself does not take such inputs
            return None
        finite = all(
            e.exact is None or not e.exact.dtype.is_floating_point or bool(e.exact.isfinite().all())
            for e in case.expected
        )
        alike = [e.spec for e in case.expected] == [e.spec for e in plain.expected]
        return case if case.exact and finite and alike and not any(e.strained for e in case.expected) else None

    def weaknesses(self, allclose: float | None) -> list[str]:
        """Why the problem is degenerate at this tolerance, a line a weakness (``problems/audit.py``)."""
        with self._lock:
            if allclose not in self._weaknesses:
                first = self.case(0)
                leaves = [expected for expected in first.expected if expected.spec is not None]
                answers = [_answer(expected) for expected in leaves]
                second = [] if self.large else self.case(1).expected
                other = [_answer(expected) for expected in second if expected.spec is not None]

                def passes(given: list[torch.Tensor]) -> bool:
                    return all(not compare(g, e, allclose).message for g, e in zip(given, leaves, strict=True))

                random = any(expected.random for expected in leaves)
                self._weaknesses[allclose] = [] if random else weaknesses(answers, other, passes)
            return self._weaknesses[allclose]

    @property
    def large(self) -> bool:
        """Whether one case takes so much memory that little else should be kept or made."""
        return self.case(0).bytes > self._budget // 4

    @property
    def kept_bytes(self) -> int:
        """Of all cases that are kept; does not wait for one that is being computed."""
        variants = [case for case in list(self._variants.values()) if case is not None]
        return sum(case.bytes for case in [*list(self._cases.values()), *variants])

    @property
    def ready(self) -> bool:
        """Whether case 0 is there, so that a candidate can be loaded without computing anything."""
        with self._lock:
            return 0 in self._cases

    @property
    def key(self) -> str:
        return f"{self.instance.digest}:{self.instance.key}"

    @property
    def place(self) -> str | None:
        """The device that a candidate's outputs have to be on; None where the reference itself may use the host."""
        return None if re.search(r"cpu|numpy", self.instance.check_source) else "cuda"

    @property
    def random(self) -> bool:
        """Whether an output differs from draw to draw. Known once there is a case."""
        return bool(self._random)

    def shows(self, number: int, at: int) -> bool:
        """Whether NaN in element *at* of case 0's input tensor *number* reaches a floating output."""
        inputs = clone(self.given_inputs(0))
        tensors = [leaf for _, leaf in flatten(inputs) if is_tensor(leaf)]
        tensors[number][unravel(at, tuple(tensors[number].shape))] = float("nan")
        with self._lock:
            output = forward(self.weights(0), inputs, 0)
        leaves = [leaf for _, leaf in flatten(output) if is_tensor(leaf) and leaf.dtype.is_floating_point]
        return any(bool(leaf.isnan().any()) for leaf in leaves)

    @property
    def resizes(self) -> bool:
        """Whether outputs of another case have other shapes or types: they hang on values."""
        with self._lock:
            if self._resizes is None:
                given = self._inputs(self._seeds[_DRAWS])
                leaves = flatten(forward(self.weights(0), given, 0), ordered=True)
                specs = [Spec.of(leaf) if is_tensor(leaf) else None for _, leaf in leaves]
                self._resizes = specs != [expected.spec for expected in self.case(0).expected]
            return self._resizes

    def bears(self, vary: Callable[[list[Any]], list[Any]]) -> bool:
        """Whether it takes inputs that are *varied* a little: without an error, nor numbers that are none where there
        were. Found out once, with a few of them."""
        with self._lock:
            if self._bears is None:
                self._bears = all(self._is_borne(vary) for _ in range(_VARIED))
            return self._bears

    def _is_borne(self, vary: Callable[[list[Any]], list[Any]]) -> bool:
        inputs = self._inputs(self._seeds[0])
        try:
            plain, other = (forward(self.weights(0), given, 0) for given in (clone(inputs), vary(inputs)))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a reference says of what it does not take
            return False
        return _finite(plain) <= _finite(other)

    @property
    def stateful(self) -> bool:
        """Whether a second call on the same inputs gives something else: buffers that it reads and changes."""
        with self._lock:
            if self._stateful is None:
                weights, inputs = self.weights(0), self._inputs(self._seeds[0])
                first = forward(weights, clone(inputs), 0)
                if self._random is None:
                    self.case(0)
                second = forward_again(weights, clone(inputs), 0)
                pairs = zip(flatten(first, ordered=True), flatten(second, ordered=True), strict=True)
                self._stateful = not self._random and any(is_tensor(a) and not close(a, b) for (_, a), (_, b) in pairs)
            return self._stateful

    def case_of(self, inputs: list[Any], draw: int, forward_seed: int, least: float = 0.0) -> Case:
        """A case on *inputs* under weights *draw*; it is not kept."""
        with self._lock:
            return self._case_of(inputs, self.weights(draw), forward_seed, least)

    def _case_of(self, inputs: list[Any], weights: Weights, forward_seed: int, least: float) -> Case:
        masters: list[torch.Tensor] = []
        packed = pack(inputs, is_tensor, masters)
        used = clone(inputs)
        reduction = Operators()
        with reduction:
            own = forward(weights, used, forward_seed)
        after = [leaf for _, leaf in flatten(used) if is_tensor(leaf)]
        mutable = frozenset(i for i, (a, b) in enumerate(zip(masters, after, strict=True)) if not identical(a, b))
        del used, after  # of a large problem there is no room for what nobody needs
        leaves = flatten(own, ordered=True)
        if self._random is None:
            self._random = self._differing(weights, inputs, forward_seed, leaves)
        certain = len(self._random) < len(leaves)
        exact = self._exact(weights, inputs, forward_seed) if certain else None
        exact_leaves: Sequence[tuple[str, Any]] = flatten(exact, ordered=True) if exact is not None else []
        arithmetic = lowest_arithmetic(self.precision, self.device, reduction)
        scales = sensitivities(partial(forward, weights, seed=forward_seed), inputs, own)
        expected = []
        for index, (path, leaf) in enumerate(leaves):
            random = path in self._random
            wanted = exact_leaves[index][1] if exact is not None and not random else None
            if not is_tensor(leaf):
                lowest = floor(_coarsest([*masters, *_tensors(own)]), reduction.k, arithmetic)
                scale = max(least, scales.get(path, 0.0))
                expected.append(expect_value(path, leaf, wanted, lowest, random, scale))
            elif random:
                expected.append(expect_random(path, leaf, reduction.k, arithmetic))
            else:
                expected.append(expect(path, leaf, wanted, reduction.k, arithmetic, least))
        if self._random:
            for number in range(DRAWS):
                drawn = flatten(forward(weights, clone(inputs), forward_seed + 1 + number), ordered=True)
                for (_, leaf), one in zip(drawn, expected, strict=True):
                    if one.draws is not None:
                        one.draws.add(leaf)
        self.known = True
        held = sum(t.numel() * t.element_size() for t in masters)
        held += sum(e.exact.numel() * e.exact.element_size() for e in expected if e.exact is not None)
        return Case(
            weights, forward_seed, masters, packed, mutable, expected, held, exact is not None and not self._random
        )

    def _exact(self, weights: Weights, inputs: list[Any], seed: int) -> Any:
        """In fp64; None where that is not possible, for want of memory too if there never was any, or if so much is
        needed that an honest candidate may leave too little. Raises torch.OutOfMemoryError elsewhere: what a candidate
        takes must not loosen what it is held to."""
        try:
            exact = exact_forward(weights, inputs, seed)
        except torch.OutOfMemoryError:
            if self._exactly and fp64_bytes(inputs) <= self._budget:
                raise
            return None
        self._exactly = self._exactly or exact is not None
        return exact

    def _differing(
        self, weights: Weights, inputs: list[Any], seed: int, leaves: list[tuple[str, Any]]
    ) -> frozenset[str]:
        """Paths of those of *leaves*, the outputs under *seed*, that come out differently under others."""
        found = set()
        for number in range(_LOOKS):
            again = flatten(forward(weights, clone(inputs), seed + 1 + number), ordered=True)
            found |= {path for (path, a), (_, b) in zip(leaves, again, strict=True) if not _alike(a, b)}
            if not found:
                break
        return frozenset(found)


def _alike(a: Any, b: Any) -> bool:
    if is_tensor(a):
        return close(a, b)
    return described(a)[0] != "float" or math.isclose(a, b, rel_tol=1e-2)


def _tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for _, leaf in flatten(output) if is_tensor(leaf)]


def _finite(output: Any) -> bool:
    return all(bool(computable(leaf).isfinite().all()) for leaf in _tensors(output))


def _coarsest(tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """The floating type with the fewest digits among *tensors*."""
    floating = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point]
    return max(floating, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _answer(expected: Expected) -> torch.Tensor:
    """PyTorch's answer in the output's own type, from what it is compared with."""
    assert expected.exact is not None and expected.spec is not None
    dtype = torch_dtype(expected.spec.dtype)
    if dtype.is_complex:
        return torch.view_as_complex(expected.exact.contiguous()).to(dtype)
    return expected.exact.to(dtype).reshape(expected.spec.shape)


def _output_bytes(case: Case) -> int:
    return sum(expected.spec.storage_bytes for expected in case.expected if expected.spec is not None)
