"""Inputs that nobody can read before their key is there, and digests that say what outputs were when they were done.

The judge compiles both kernels for its GPU, once; workers get the code. Who finds a key without being told has to try
2^63 of them in the mean. Who is to find outputs to a digest that he has already given, and may choose the last bits of
many, needs some 2^53 operations for each block of them: minutes of a large GPU, for each call that is to seem fast, of
which the judge copies the outputs after the last: within the time limit. Both are as strong as their mixing, which is
that of generators and hash tables, not of a cipher.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import threading

import triton
import triton.language as tl

from ..wire.kernels import Image
from ..wire.page import DIGESTS

#: Words of 32 bits that one block masks at a step, or digests.
BLOCK = 1024
_WARPS = 4
_SPARSE, _SPARSE_LEAST = 16, 8  # one block in so many, as long as there are so many of these


@triton.jit
def mask(words, key_ptr, quarter, every, QUARTER: tl.constexpr):
    """Change 4 × *quarter* words into what they are under the key, and back: exclusive or with Philox4x32-10 (Salmon et
    al. 2011, Triton's ``tl.randint4x``) of the key and the word's number. Of *every* (a power of two) blocks in a row
    one is changed, which only the key tells."""
    key = tl.load(key_ptr)
    block = tl.program_id(0) * every + (tl.randint(key, -1 - tl.program_id(0)) & (every - 1))
    at = block * QUARTER + tl.arange(0, QUARTER)
    mine = at < quarter
    a, b, c, d = tl.randint4x(key, at)
    place = words + at
    tl.store(place, tl.load(place, mask=mine) ^ a.to(tl.int32, bitcast=True), mask=mine)
    place += quarter
    tl.store(place, tl.load(place, mask=mine) ^ b.to(tl.int32, bitcast=True), mask=mine)
    place += quarter
    tl.store(place, tl.load(place, mask=mine) ^ c.to(tl.int32, bitcast=True), mask=mine)
    place += quarter
    tl.store(place, tl.load(place, mask=mine) ^ d.to(tl.int32, bitcast=True), mask=mine)


@triton.jit
def _both(a, b):
    """A number of 64 bits for two, from which neither is found but by trying (Davies and Meyer's way): given the other,
    2^32 times."""
    x = (a ^ 0x27D4EB2F165667C5) * 0x9FB21C651E98DF25
    x = (x ^ (x >> 29)) + b * 0x165667B19E3779F9
    x = (x ^ (x >> 32)) * 0x2545F4914F6CDD1D
    x = x ^ (x >> 29)
    return x ^ a ^ (b + b)


@triton.jit
def digest(words, key_ptr, digests, count, steps, BLOCK: tl.constexpr):
    """Of *count* words a number of 64 bits for every *steps* × BLOCK of them, which hangs on the key, on each word and
    on where it is."""
    at = tl.program_id(0).to(tl.int64) * steps * BLOCK + tl.arange(0, BLOCK)
    lanes = tl.zeros((BLOCK,), tl.uint64) + tl.load(key_ptr).to(tl.uint64, bitcast=True)
    for _ in range(steps):
        word = tl.load(words + at, mask=at < count, other=0).to(tl.uint32, bitcast=True).to(tl.uint64)
        lanes = _both(lanes, word | (at.to(tl.uint64) << 32))
        at += BLOCK
    tl.store(digests + tl.program_id(0), tl.reduce(lanes, 0, _both).to(tl.int64, bitcast=True))


_COMPILED: dict[tuple[int, int], tuple[Image, Image]] = {}
_COMPILING = threading.Lock()


def images(capability: tuple[int, int]) -> tuple[Image, Image]:
    """``mask`` and ``digest`` for GPUs of *capability*."""
    with _COMPILING:
        if capability not in _COMPILED:
            pointers = {"words": "*i32", "key_ptr": "*i64"}
            _COMPILED[capability] = (
                _compiled(mask, pointers | {"quarter": "i32", "every": "i32"}, {"QUARTER": BLOCK // 4}, capability),
                _compiled(
                    digest,
                    pointers | {"digests": "*i64", "count": "i64", "steps": "i32"},
                    {"BLOCK": BLOCK},
                    capability,
                ),
            )
        return _COMPILED[capability]


def _compiled(
    kernel: triton.JITFunction, signature: dict[str, str], constants: dict[str, int], capability: tuple[int, int]
) -> Image:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    made = triton.compile(source, target=target, options={"num_warps": _WARPS})
    if made.metadata.global_scratch_size or made.metadata.shared > 48 << 10:
        raise RuntimeError(f"the kernel {made.metadata.name} was compiled to need memory that nobody gives it")
    return Image(made.metadata.name, 32 * made.metadata.num_warps, made.metadata.shared, made.asm["cubin"])


def sparsely(blocks: int) -> int:
    """In how many blocks one is masked where most of the inputs are to stay as cold as they are."""
    return max(1, min(_SPARSE, 1 << max(0, blocks // _SPARSE_LEAST).bit_length() >> 1))


def parts(words: int) -> tuple[int, int]:
    """How many digests there are of so many words, and how many blocks of words each is of."""
    blocks = -(-words // BLOCK)
    steps = max(1, -(-blocks // DIGESTS))
    return -(-blocks // steps), steps
