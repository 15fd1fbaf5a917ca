"""Number formats that NumPy lacks: bf16 and fp8, kept as bits in unsigned integers, computed in fp32.

``value`` gives numbers to compute with, ``pack`` rounds them back to nearest even, as torch and the GPU do; a NaN
becomes the format's quiet NaN, whatever its payload. Conversions to fp8 saturate at the largest finite value, as
``cvt.rn.satfinite`` does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Triton's name → (exponent bits, mantissa bits, bias, does the top exponent hold infinities, is -0 the only NaN)
_FP8 = {
    "fp8e5": (5, 2, 15, True, False),
    "fp8e4nv": (4, 3, 7, False, False),
    "fp8e5b16": (5, 2, 16, False, True),
    "fp8e4b8": (4, 3, 8, False, True),
    "fp8e4b15": (4, 3, 15, False, False),
}
NARROW = frozenset({"bf16", *_FP8})
"""Triton names of the formats whose arrays hold bits, not numbers."""


@lru_cache(maxsize=len(_FP8))
def _table(name: str) -> tuple[Array, Array, Array]:
    """Of one fp8 format: the value of each of the 256 codes, its finite magnitudes, the midpoints between them."""
    exponent_bits, mantissa_bits, bias, has_inf, zero_nan = _FP8[name]
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    fraction = mantissa / (1 << mantissa_bits)
    numbers = sign * np.where(
        exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent.astype(float) - bias)
    )
    top = (1 << exponent_bits) - 1
    if has_inf:
        numbers = np.where(exponent == top, np.where(mantissa == 0, sign * np.inf, np.nan), numbers)
    elif zero_nan:
        numbers = np.where(codes == 0x80, np.nan, numbers)
    else:
        numbers = np.where((codes & 0x7F) == 0x7F, np.nan, numbers)
    positive = numbers[:128]
    finite = positive[np.isfinite(positive)]
    return numbers.astype(np.float32), finite, (finite[1:] + finite[:-1]) / 2


def value(bits: Array, name: str) -> Array:
    """Numbers (float32) of an array of bits in the narrow format ``name``."""
    if bits.dtype == np.float32:
        return bits
    if name == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    numbers: Array = _table(name)[0][bits]
    return numbers


def pack(numbers: Array, name: str, *, toward_zero: bool = False) -> Array:
    """Bits of ``numbers`` in the narrow format ``name``, to nearest even (or toward zero, bf16 only)."""
    wide = np.ascontiguousarray(numbers, dtype=np.float32).reshape(np.shape(numbers))
    if name == "bf16":
        bits = wide.view(np.uint32)
        rounded = bits if toward_zero else bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        packed = (rounded >> np.uint32(16)).astype(np.uint16)
        nan = np.isnan(wide)
        if nan.any():
            packed = np.where(nan, np.uint16(0x7FC0), packed)
        return packed
    _, finite, middles = _table(name)
    size = np.minimum(np.abs(wide.astype(np.float64)), finite[-1])
    code = np.searchsorted(middles, size, side="left")
    tie = (code < len(middles)) & (middles[np.minimum(code, len(middles) - 1)] == size)
    code = np.where(tie & (code % 2 == 1), code + 1, code)
    sign = np.signbit(wide)
    if _FP8[name][4]:
        sign &= code != 0  # these formats have one zero; its negative is NaN
    packed = (code | (sign.astype(np.int64) << 7)).astype(np.uint8)
    nan_code = 0x80 if _FP8[name][4] else 0x7F
    return np.where(np.isnan(wide), np.uint8(nan_code), packed)
