"""CUDA's libdevice by NumPy and torch, one entry a function of ``triton.language.extra.cuda.libdevice``.

Rounding suffixes: ``_rn`` is NumPy's own; for ``_rz _rd _ru`` a float result is moved by one step where the nearest
value lies on the wrong side, which needs the exact result: it is formed in float64 (so the float64 variants keep
nearest). ``fast_*`` are computed exactly: the interpreter answers whether a kernel is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from .errors import NeedsGpu
from .formats import Array

Function = Callable[..., Any]
_from_numpy = torch.from_numpy  # the real one, whatever ``devices`` makes of it later


def _torch(function: Function) -> Function:
    """A torch function on NumPy arrays, unseen by the modes that watch the candidate."""

    def run(*arrays: Array) -> Array:
        if torch._C._len_torch_dispatch_stack():
            from torch.utils._python_dispatch import _disable_current_modes

            modes: Any = _disable_current_modes()
        else:
            modes = nullcontext()
        with modes, torch._C.DisableTorchFunction():
            tensors = [_from_numpy(np.array(array, order="C")) for array in arrays]  # owned and writable
            result: Array = function(*tensors).numpy()
            return result

    return run


def _gamma(x: float) -> float:
    try:
        return math.gamma(x)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _wide(function: Function) -> Function:
    """Computed in float64 and rounded once."""
    return lambda *a: np.asarray(function(*[x.astype(np.float64) for x in a])).astype(a[0].dtype)


def _toward(mode: str, function: Function) -> Function:
    """``function`` rounded toward zero (``z``), down (``d``) or up (``u``)."""

    def run(*arrays: Array) -> Array:
        dtype = arrays[0].dtype
        near: Array = np.asarray(function(*arrays)).astype(dtype)
        if dtype == np.float64:
            return near
        exact = np.asarray(function(*[a.astype(np.float64) for a in arrays]))
        up = np.nextafter(near, dtype.type(np.inf))
        down = np.nextafter(near, dtype.type(-np.inf))
        too_high, too_low = near > exact, near < exact
        if mode == "z":
            too_high, too_low = too_high & (exact > 0), too_low & (exact < 0)
        moved = np.where(too_high & (mode in "dz"), down, near)
        return np.where(too_low & (mode in "uz"), up, moved)

    return run


_ROUND: dict[str, Function] = {"rn": np.rint, "rz": np.trunc, "rd": np.floor, "ru": np.ceil}


def _whole(mode: str, kind: str) -> Function:
    """Float to integer; saturating, NaN to 0, as ``cvt`` does."""
    info = np.iinfo(kind)

    def run(x: Array) -> Array:
        rounded = np.nan_to_num(_ROUND[mode](x.astype(np.float64)), nan=0.0, posinf=info.max, neginf=info.min)
        low, high = rounded <= info.min, rounded >= info.max
        inside = np.where(low | high, 0, rounded).astype(kind)
        return np.where(low, kind_min, np.where(high, kind_max, inside))

    kind_min, kind_max = np.array(info.min, kind), np.array(info.max, kind)
    return run


def _to_float(mode: str, kind: str) -> Function:
    if mode == "rn" or kind == "float64":
        return lambda x: x.astype(kind)

    def run(x: Array) -> Array:
        near = x.astype(kind)
        exact = x.astype(np.float64)
        shift = {"rz": np.where(exact > 0, near > exact, near < exact), "rd": near > exact, "ru": near < exact}[mode]
        side = np.where(near > exact, -np.inf, np.inf).astype(kind)
        return np.where(shift, np.nextafter(near, side), near)

    return run


def _round_away(x: Array) -> Any:
    return np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x)


def _bits(function: Function) -> Function:
    """An operation on the unsigned bits of integers, done in Python's own integers' width."""
    return lambda *a: function(a[0].dtype.itemsize * 8, *[x.view(f"u{x.dtype.itemsize}") for x in a])


def _popcount(width: int, x: Array) -> Any:
    return np.bitwise_count(x).astype(np.int32)


def _leading_zeros(width: int, x: Array) -> Any:
    for shift in (1, 2, 4, 8, 16, 32):
        if shift < width:
            x = x | (x >> x.dtype.type(shift))
    return (width - np.bitwise_count(x).astype(np.int32)).astype(np.int32)


def _reverse(width: int, x: Array) -> Any:
    result = np.zeros_like(x)
    one = x.dtype.type(1)
    for _ in range(width):
        result = (result << one) | (x & one)
        x = x >> one
    return result


def _first_set(width: int, x: Array) -> Any:
    lowest = x & (~x + x.dtype.type(1))
    return np.where(x == 0, 0, width - _leading_zeros(width, lowest)).astype(np.int32)


def _byte_perm(x: Array, y: Array, selector: Array) -> Any:
    both = (y.view(np.uint32).astype(np.uint64) << np.uint64(32)) | x.view(np.uint32).astype(np.uint64)
    result = np.zeros(both.shape, np.uint64)
    for position in range(4):
        choice = (selector.view(np.uint32).astype(np.uint64) >> np.uint64(4 * position)) & np.uint64(7)
        byte = (both >> (choice * np.uint64(8))) & np.uint64(0xFF)
        result |= byte << np.uint64(8 * position)
    return result.astype(np.uint32).view(np.int32)


def _high_product(a: Array, b: Array) -> Any:
    bits = a.dtype.itemsize * 8
    product = (a.astype(object) * b.astype(object)) >> bits
    return product.astype(a.dtype)


def _low24(a: Array, b: Array) -> Any:
    def clip(x: Array) -> Any:
        low = x.astype(np.int64) & 0xFFFFFF
        return np.where(low & 0x800000, low - 0x1000000, low) if x.dtype.kind == "i" else low

    return (clip(a) * clip(b)).astype(np.uint32).view(a.dtype)


def _norm(*parts: Array) -> Any:
    return np.sqrt(np.sum([p.astype(np.float64) ** 2 for p in np.broadcast_arrays(*parts)], axis=0)).astype(
        parts[0].dtype
    )


def _inverse(function: Function) -> Function:
    return lambda *a: (1 / function(*a)).astype(a[0].dtype)


def _exponent(x: Array) -> Any:
    return np.where(x == 0, -np.inf, np.where(np.isinf(x), np.inf, np.frexp(x)[1] - 1.0)).astype(x.dtype)


def _ilogb(x: Array) -> Any:
    special = np.where(np.isinf(x), 2**31 - 1, -(2**31))
    ordinary = np.isfinite(x) & (x != 0)
    return np.where(ordinary, np.frexp(x)[1] - 1, special).astype(np.int32)


def _flag(function: Function) -> Function:
    return lambda x: function(x).astype(np.int32)


def _bessel(name: str) -> Function:
    """Bessel functions of integer order n by upward recurrence from orders 0 and 1 (accurate for n ≤ |x|)."""
    zeroth, first = _torch(getattr(torch.special, f"bessel_{name}0")), _torch(getattr(torch.special, f"bessel_{name}1"))

    def one(order: int, x: Array) -> Any:
        before, now = zeroth(x), first(x)
        if order == 0:
            return before
        for n in range(1, order):
            before, now = now, 2 * n / x * now - before
        return now

    def run(orders: Array, x: Array) -> Array:
        orders, x = np.broadcast_arrays(orders, x)
        result = np.zeros_like(x)
        for order in np.unique(orders):
            chosen = orders == order
            result[chosen] = one(int(order), x[chosen])
        return result

    return run


TABLE: dict[str, Function] = {
    "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "nearbyint": np.rint,
    "round": _round_away, "sqrt": np.sqrt, "rsqrt": _inverse(np.sqrt), "rsqrt_rn": _inverse(np.sqrt),
    "exp": np.exp, "exp2": np.exp2, "exp10": _wide(lambda x: 10.0**x), "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "logb": _exponent, "ilogb": _ilogb,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "atan2": np.arctan2, "sinpi": _wide(lambda x: np.sin(np.pi * x)), "cospi": _wide(lambda x: np.cos(np.pi * x)),
    "hypot": np.hypot, "rhypot": _inverse(np.hypot), "norm3d": _norm, "norm4d": _norm,
    "rnorm3d": _inverse(_norm), "rnorm4d": _inverse(_norm), "cbrt": np.cbrt, "rcbrt": _inverse(np.cbrt),
    "pow": np.power, "fmod": np.fmod, "fdim": lambda x, y: np.where(x > y, x - y, np.where(np.isnan(x + y), x + y, 0)),
    "remainder": lambda x, y: (x - y * np.rint(x.astype(np.float64) / y)).astype(x.dtype),
    "copysign": np.copysign, "nextafter": np.nextafter, "ldexp": np.ldexp, "scalbn": np.ldexp,
    "saturatef": lambda x: np.where(np.isnan(x), 0, np.clip(x, 0, 1)).astype(x.dtype),
    "fma": _wide(lambda x, y, z: x * y + z),
    "fast_sinf": np.sin, "fast_cosf": np.cos, "fast_tanf": np.tan, "fast_expf": np.exp,
    "fast_exp10f": _wide(lambda x: 10.0**x), "fast_logf": np.log, "fast_log2f": np.log2, "fast_log10f": np.log10,
    "fast_powf": np.power, "fast_dividef": np.divide, "fast_tanhf": np.tanh,
    "erf": _torch(torch.erf), "erfc": _torch(torch.erfc), "erfinv": _torch(torch.erfinv),
    "erfcx": _torch(torch.special.erfcx),
    "erfcinv": _wide(_torch(lambda x: -torch.special.ndtri(x / 2) / math.sqrt(2))),
    "normcdf": _wide(_torch(torch.special.ndtr)), "normcdfinv": _wide(_torch(torch.special.ndtri)),
    "lgamma": _torch(torch.lgamma), "tgamma": _wide(np.vectorize(_gamma, otypes=[np.float64])),
    "j0": _torch(torch.special.bessel_j0), "j1": _torch(torch.special.bessel_j1), "jn": _bessel("j"),
    "y0": _torch(torch.special.bessel_y0), "y1": _torch(torch.special.bessel_y1), "yn": _bessel("y"),
    "cyl_bessel_i0": _torch(torch.special.i0), "cyl_bessel_i1": _torch(torch.special.i1),
    "isnan": _flag(np.isnan), "isinf": _flag(np.isinf), "signbit": _flag(np.signbit),
    "finitef": _flag(np.isfinite), "isfinited": _flag(np.isfinite),
    "clz": _bits(_leading_zeros), "popc": _bits(_popcount), "brev": _bits(_reverse), "ffs": _bits(_first_set),
    "byte_perm": _byte_perm, "mulhi": _high_product, "mul24": _low24,
    "sad": lambda x, y, z: (np.abs(x.astype(np.int64) - y) + z).astype(z.dtype),
    "hadd": lambda x, y: ((x.astype(np.int64) + y) >> 1).astype(x.dtype),
    "rhadd": lambda x, y: ((x.astype(np.int64) + y + 1) >> 1).astype(x.dtype),
    "int_as_float": lambda x: x.view(np.float32), "uint_as_float": lambda x: x.view(np.float32),
    "float_as_int": lambda x: x.view(np.int32), "float_as_uint": lambda x: x.view(np.uint32),
    "longlong_as_double": lambda x: x.view(np.float64), "double_as_longlong": lambda x: x.view(np.int64),
    "double2loint": lambda x: (x.view(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32),
    "double2hiint": lambda x: (x.view(np.int64) >> 32).astype(np.int32),
    "hiloint2double": lambda high, low: (
        (high.astype(np.int64) << 32) | low.view(np.uint32).astype(np.int64)
    ).view(np.float64),
    "llrint": _whole("rn", "int64"), "llround": lambda x: _whole("rn", "int64")(_round_away(x.astype(np.float64))),
}  # fmt: skip

for _name, _function in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}.items():
    TABLE[f"{_name}_rn"] = _function
    for _mode in "zdu":
        TABLE[f"{_name}_r{_mode}"] = _toward(_mode, _function)
for _mode in "nzdu":
    _plain = _mode == "n"
    TABLE[f"rcp_r{_mode}"] = np.reciprocal if _plain else _toward(_mode, np.reciprocal)
    TABLE[f"sqrt_r{_mode}"] = np.sqrt if _plain else _toward(_mode, np.sqrt)
    TABLE[f"fma_r{_mode}"] = TABLE["fma"] if _plain else _toward(_mode, lambda x, y, z: x * y + z)
    TABLE[f"double2float_r{_mode}"] = _to_float(f"r{_mode}", "float32")
    for _source in ("float", "double"):
        for _kind, _dtype in (("int", "int32"), ("uint", "uint32"), ("ll", "int64"), ("ull", "uint64")):
            TABLE[f"{_source}2{_kind}_r{_mode}"] = _whole(f"r{_mode}", _dtype)
            TABLE[f"{_kind}2{_source}_r{_mode}"] = _to_float(f"r{_mode}", f"float{64 if _source == 'double' else 32}")


def find(name: str, symbol: str) -> Function:
    """The function called ``name`` in libdevice, or the one behind the symbol (``__nv_tanhf``).

    Raises ``NeedsGpu`` naming it where there is none.
    """
    plain = symbol.removeprefix("__nv_")
    for known in (name, plain, plain.removesuffix("f"), plain.removesuffix("ll")):
        if known in TABLE:
            return TABLE[known]
    raise NeedsGpu(f"the interpreter has no {name or symbol} ({symbol}): judge this candidate on a GPU")


def install(semantic: Any) -> None:
    """Make every function of libdevice callable under both of its module names."""
    import triton.language.extra.libdevice as stubs
    from triton.language.extra.cuda import gdc, utils
    from triton.language.extra.cuda import libdevice as real

    from .internals import bind_builtins

    def named(name: str, bound: Function) -> Function:
        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop("_semantic", None)
            semantic.builder.extern = name
            return bound(*args, **kwargs)

        call.__name__ = name
        return call

    for name in bind_builtins(real, semantic):
        function = named(name, getattr(real, name))
        setattr(real, name, function)
        setattr(stubs, name, function)
    for module in (gdc, utils):
        bind_builtins(module, semantic)
