"""What each operation of the language computes, as on a GPU: Triton's interpreter with its numbers put right.

bf16 and fp8 are computed in fp32 and rounded to nearest even. fp16 dots accumulate in fp32. A dot on fp32 stays exact
fp32 whatever its ``input_precision``: the interpreter answers whether a kernel is right, TF32 is a matter of tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import triton.language as tl

from . import internals, libdevice
from .errors import NeedsGpu
from .formats import NARROW, Array, pack, value
from .internals import Handle, np_dtype

_COMPARISONS = frozenset({np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal})


class Memory(Protocol):
    """Where loads and stores go: the tensors themselves, or stand-ins that are only counted."""

    program: tuple[int, int, int]

    def load(self, pointers: Any, mask: Array | None, other: Array | None, dtype: Any) -> Array: ...
    def store(self, pointers: Any, value: Array, mask: Array | None, dtype: Any) -> None: ...


def numbers(handle: Any) -> Array:
    """A handle's data as numbers to compute with: narrow floats as fp32."""
    name = handle.dtype.scalar.name
    data: Array = handle.data
    return value(data, name) if name in NARROW and data.dtype != np.bool_ else data


def made(data: Any, kind: Any) -> Any:
    """A handle of type ``kind`` from numbers."""
    kind = kind.scalar
    if kind.name in NARROW:
        return Handle(pack(np.asarray(data), kind.name), kind)
    dtype = np_dtype(kind)
    return Handle(data if data.dtype == dtype else data.astype(dtype), kind)


def moved(data: Array, source: Any) -> Any:
    """A handle with the same elements in another shape; a pointer keeps its origin."""
    result = Handle(data, source.dtype.scalar)
    origin = getattr(source, "of", None)
    if origin is not None:
        result.of = origin
    return result


class Builder(internals.StockBuilder):  # type: ignore[misc]
    """The interpreter's builder. ``memory`` is set for the length of a launch."""

    counts = False

    def __init__(self) -> None:
        super().__init__()
        internals.allow_no_overflow_checks(self)
        rule = internals.target_dot_sizes()
        if rule is not None:
            self.codegen_fns["min_dot_size"] = rule
        self.memory: Any = None  # a ``Memory`` within a launch
        self.extern = ""

    def did(self, unit: str, amount: float) -> None:
        """Hook of the counting builder: ``amount`` operations on ``unit``."""

    # elementwise

    def binary_op(self, lhs: Any, rhs: Any, op: Callable[..., Any]) -> Any:
        result = op(numbers(lhs), numbers(rhs))
        if self.counts:
            special = op is np.divide or op is np.fmod
            self.elementwise(lhs.dtype.scalar.name, result.size, special)
        if op in _COMPARISONS:
            return Handle(result, tl.int1)
        return made(result, lhs.dtype)

    def unary_op(self, arg: Any, op: Callable[..., Any]) -> Any:
        result = op(numbers(arg))
        if self.counts:
            self.elementwise(arg.dtype.scalar.name, result.size, op not in (np.abs, np.floor, np.ceil))
        return made(result, arg.dtype)

    def elementwise(self, name: str, amount: int, special: bool) -> None:
        """Count ``amount`` elements of the type ``name``."""
        if name in ("fp32", "fp64", "fp16", "bf16"):
            self.did("special" if special else name, amount)
        else:
            self.did("fp16" if name.startswith("fp8") else "int", amount)

    def create_minnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs: Any, rhs: Any) -> Any:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_fabs(self, arg: Any) -> Any:
        return self.unary_op(arg, np.abs)

    def create_rsqrt(self, arg: Any) -> Any:
        return self.unary_op(arg, lambda x: (1 / np.sqrt(x)).astype(x.dtype))

    def create_erf(self, arg: Any) -> Any:
        return self.unary_op(arg, libdevice.TABLE["erf"])

    def create_ashr(self, lhs: Any, rhs: Any) -> Any:
        signed = np.dtype(f"int{lhs.data.dtype.itemsize * 8}")
        shifted = np.right_shift(lhs.data.view(signed), rhs.data.astype(signed))
        if self.counts:
            self.did("int", shifted.size)
        return Handle(shifted.astype(np_dtype(lhs.dtype)), lhs.dtype.scalar)

    def create_idiv(self, lhs: Any, rhs: Any) -> Any:
        below = np.where(rhs.data == 0, rhs.data.dtype.type(1), rhs.data)
        if self.counts:
            self.did("int", max(lhs.data.size, below.size))
        return made((lhs.data - np.fmod(lhs.data, below)) // below, lhs.dtype)

    def create_fma(self, x: Any, y: Any, z: Any) -> Any:
        result = numbers(x) * numbers(y) + numbers(z)
        if self.counts:
            self.elementwise(z.dtype.scalar.name, 2 * result.size, False)
        return made(result, z.dtype)

    def create_clampf(self, arg: Any, low: Any, high: Any, propagate_nans: Any) -> Any:
        keep = propagate_nans == tl.PropagateNan.ALL
        least, most = (np.minimum, np.maximum) if keep else (np.fmin, np.fmax)
        result = least(most(numbers(arg), numbers(low)), numbers(high))
        if self.counts:
            self.elementwise(arg.dtype.scalar.name, 2 * result.size, False)
        return made(result, arg.dtype)

    def create_select(self, condition: Any, lhs: Any, rhs: Any) -> Any:
        result = moved(np.where(condition.data, lhs.data, rhs.data), rhs)
        if getattr(lhs, "of", None) is not getattr(rhs, "of", None):
            result.of = None
        return result

    def create_extern_elementwise(
        self, lib_name: str, lib_path: str, symbol: str, args: list[Any], result: Any, is_pure: bool
    ) -> Any:
        function = libdevice.find(self.extern, symbol)
        data = function(*[numbers(arg) for arg in args])
        if self.counts:
            self.did("special", data.size)
        return made(np.asarray(data), result)

    def create_inline_asm(
        self, asm: str, constraints: str, values: list[Any], types: Any, is_pure: bool, pack: int
    ) -> Any:
        if asm.startswith("griddepcontrol"):  # launch order between kernels: nothing to do where they run in turn
            return Handle(np.zeros(1, np.int32), tl.int32)
        first = asm.strip().splitlines()[0] if asm.strip() else asm
        raise NeedsGpu(
            f"inline assembly ({first.strip()}) cannot run in the interpreter: write it with tl operations, or judge "
            "this candidate on a GPU"
        )

    # casts

    def cast_impl(self, src: Any, dst_type: Any) -> Any:
        return made(numbers(src), dst_type)

    def create_fp_to_fp(self, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        kind = dst_type.scalar
        if kind.name == "bf16" and rounding_mode == internals.ROUND_TO_ZERO:
            return Handle(pack(numbers(src), "bf16", toward_zero=True), kind)
        return made(numbers(src), kind)

    def create_bitcast(self, src: Any, dst_type: Any) -> Any:
        data = src.data
        dtype = np_dtype(dst_type)
        if data.dtype == np.bool_ and dtype != np.bool_:
            data = data.astype(np.uint8)
        result = Handle(
            data.view(dtype) if data.dtype.itemsize == dtype.itemsize else data.astype(dtype), dst_type.scalar
        )
        origin = getattr(src, "of", None)
        if origin is not None:
            result.of = origin
        return result

    create_int_to_ptr = create_bitcast
    create_ptr_to_int = create_bitcast

    # shapes: data moves as bits, and a pointer keeps the argument it came from

    def create_addptr(self, pointer: Any, offset: Any) -> Any:
        size = max(1, pointer.get_element_ty().primitive_bitwidth // 8)
        result = Handle(pointer.data + offset.data.astype(np.uint64) * np.uint64(size), pointer.dtype)
        result.of = getattr(pointer, "of", None)
        if self.counts:
            self.did("int", result.data.size)
        return result

    def create_reshape(self, arg: Any, shape: Any, allow_reorder: Any) -> Any:
        return moved(arg.data.reshape(shape), arg)

    def create_trans(self, arg: Any, perm: Any) -> Any:
        return moved(np.transpose(arg.data, perm), arg)

    def create_expand_dims(self, arg: Any, axis: int) -> Any:
        return moved(np.expand_dims(arg.data, axis), arg)

    def create_broadcast(self, arg: Any, shape: Any) -> Any:
        return moved(np.broadcast_to(arg.data, shape), arg)

    def create_splat(self, kind: Any, arg: Any) -> Any:
        sizes = tuple([int(size) for size in kind.shape])
        one = np.ascontiguousarray(arg.data.reshape(-1)[:1])
        return moved(np.ndarray(sizes, one.dtype, one, 0, (0,) * len(sizes)), arg)  # ten times np.broadcast_to's speed

    # dot

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        left, right, total = numbers(a), numbers(b), numbers(d)
        if self.counts:
            batch = int(np.prod(left.shape[:-2]))
            amount = 2.0 * batch * left.shape[-2] * left.shape[-1] * right.shape[-1]
            self.dot(a.dtype.scalar.name, input_precision, amount)
            return Handle(d.data, d.dtype.scalar)
        if left.dtype.kind in "iu":
            product = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)  # exact below 2^53
            return Handle((product + total).astype(np_dtype(d.dtype)), d.dtype.scalar)
        wide = np.float64 if left.dtype == np.float64 else np.float32
        product = np.matmul(left.astype(wide, copy=False), right.astype(wide, copy=False))
        return made(product + total.astype(wide, copy=False), d.dtype)

    def dot(self, name: str, precision: Any, amount: float) -> None:
        """Count a matrix product under the unit that does it."""
        if name == "fp32":
            unit = "dot:fp32" if precision == internals.PRECISION.IEEE else "dot:tf32"
            times = 3 if precision == internals.PRECISION.TF32x3 else 1
            self.did(unit, amount * times)
        elif name == "fp64":
            self.did("fp64", amount)
        else:
            self.did(f"dot:{name}" if name in ("fp16", "bf16", "int8") else "dot:fp8", amount)

    # memory

    def create_load(self, pointer: Any, cache: Any, eviction: Any, volatile: Any) -> Any:
        kind = pointer.get_element_ty()
        return Handle(self.memory.load(pointer, None, None, np_dtype(kind)), kind)

    def create_store(self, pointer: Any, given: Any, cache: Any, eviction: Any) -> None:
        self.memory.store(pointer, given.data, None, np_dtype(pointer.get_element_ty()))

    def create_masked_load(
        self, pointers: Any, mask: Any, other: Any, cache_modifier: Any, eviction_policy: Any, is_volatile: Any
    ) -> Any:
        kind = pointers.get_element_ty()
        mask = getattr(mask, "data", mask) if not isinstance(mask, np.ndarray) else mask
        data = self.memory.load(pointers, mask, None if other is None else other.data, np_dtype(kind))
        return Handle(data, kind)

    def create_masked_store(
        self, pointers: Any, given: Any, mask: Any, cache_modifier: Any, eviction_policy: Any
    ) -> None:
        mask = mask.data if not isinstance(mask, np.ndarray) else mask
        self.memory.store(pointers, given.data, mask, np_dtype(pointers.get_element_ty()))

    def create_tensor_pointer_load(
        self, pointer: Any, boundary_check: Any, padding_option: Any, cache: Any, eviction: Any, volatile: Any
    ) -> Any:
        pointer.materialize_pointers = self._with_origin(pointer)
        return super().create_tensor_pointer_load(pointer, boundary_check, padding_option, cache, eviction, volatile)

    def create_tensor_pointer_store(
        self, pointer: Any, given: Any, boundary_check: Any, cache: Any, eviction: Any
    ) -> None:
        pointer.materialize_pointers = self._with_origin(pointer)
        super().create_tensor_pointer_store(pointer, given, boundary_check, cache, eviction)

    @staticmethod
    def _with_origin(pointer: Any) -> Callable[..., Any]:
        """The block pointer's or descriptor's own addresses, told which argument they are of."""
        origin = getattr(pointer.base, "of", None)
        stock = type(pointer).materialize_pointers

        def materialize(*args: Any) -> Any:
            handle, mask = stock(pointer, *args)
            handle.of = origin
            return handle, mask

        return materialize

    def create_make_tensor_descriptor(self, *args: Any, **kwargs: Any) -> Any:
        made_descriptor = super().create_make_tensor_descriptor(*args, **kwargs)
        made_descriptor.materialize_pointers = self._with_origin(made_descriptor)
        return made_descriptor

    def create_descriptor_reduce(self, kind: Any, descriptor: Any, given: Any, offsets: Any) -> None:
        pointers, mask = descriptor.materialize_pointers(offsets)
        name = {"ADD": "FADD" if given.dtype.scalar.is_floating() else "ADD"}.get(kind.name, kind.name)
        if name in ("MIN", "MAX") and not given.dtype.scalar.is_int_signed():
            name = f"U{name}"
        self._modify(getattr(internals.ATOMIC, name), pointers, given, mask)

    # atomics: programs run one after another, so a read, a change and a write are enough

    def create_atomic_rmw(self, operation: Any, pointers: Any, given: Any, mask: Any, sem: Any, scope: Any) -> Any:
        return self._modify(operation, pointers, given, mask.data)

    def create_atomic_cas(self, pointers: Any, expected: Any, given: Any, sem: Any, scope: Any) -> Any:
        kind = pointers.get_element_ty()
        dtype = np_dtype(kind)
        old = self.memory.load(pointers, None, None, dtype)
        self.memory.store(pointers, np.where(old == expected.data, given.data, old), None, dtype)
        return Handle(old, kind)

    def _modify(self, operation: Any, pointers: Any, given: Any, mask: Array) -> Any:
        kind = pointers.get_element_ty()
        dtype = np_dtype(kind)
        combine = _ATOMICS[operation]
        shape = pointers.data.shape
        mask = np.broadcast_to(mask, shape)
        if self.counts:
            self.elementwise(kind.name, int(mask.sum()), False)
        change = Handle(np.broadcast_to(given.data, shape), kind)
        if _all_different(pointers.data[mask]):
            old = self.memory.load(pointers, mask, None, dtype)
            new = _combined(combine, Handle(old, kind), change, kind)
            self.memory.store(pointers, new, mask, dtype)
            return Handle(old, kind)
        old = np.zeros(shape, dtype)
        for index in zip(*np.nonzero(mask), strict=True):
            one = moved(pointers.data[index].reshape(1), pointers)
            one.dtype = pointers.dtype
            was = self.memory.load(one, None, None, dtype)
            part = Handle(change.data[index].reshape(1), kind)
            self.memory.store(one, _combined(combine, Handle(was, kind), part, kind), None, dtype)
            old[index] = was[0]
        return Handle(old, kind)


def _all_different(addresses: Array) -> bool:
    return addresses.size < 2 or np.unique(addresses).size == addresses.size


def _combined(combine: Callable[[Array, Array], Array], old: Any, change: Any, kind: Any) -> Array:
    result: Array = made(combine(numbers(old), numbers(change)), kind).data
    return result


_ATOMICS: dict[Any, Callable[[Array, Array], Array]] = {
    internals.ATOMIC.ADD: np.add,
    internals.ATOMIC.FADD: np.add,
    internals.ATOMIC.AND: np.bitwise_and,
    internals.ATOMIC.OR: np.bitwise_or,
    internals.ATOMIC.XOR: np.bitwise_xor,
    internals.ATOMIC.XCHG: lambda old, new: new,
    internals.ATOMIC.MAX: np.maximum,
    internals.ATOMIC.MIN: np.minimum,
    internals.ATOMIC.UMAX: lambda old, new: _unsigned(np.maximum, old, new),
    internals.ATOMIC.UMIN: lambda old, new: _unsigned(np.minimum, old, new),
}


def _unsigned(op: Callable[[Array, Array], Array], old: Array, new: Array) -> Array:
    kind = np.dtype(f"uint{old.dtype.itemsize * 8}")
    return op(old.view(kind), new.astype(old.dtype).view(kind)).view(old.dtype)
