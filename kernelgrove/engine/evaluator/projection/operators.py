"""What eager PyTorch's CUDA kernels do for each ATen operator: one ``Work`` a kernel launched.

The passes over memory follow the kernels in ``aten/src/ATen/native/cuda`` (SoftMax.cu, layer_norm_kernel.cu,
group_norm_kernel.cu, Normalization.cuh, ScanUtils.cuh, Loss.cu, NLLLoss2d.cu, Sort.cu, TensorTopK.cu) and, for
convolutions, cuDNN's NHWC kernels with the layout conversions they need. Operators not named here are pointwise:
each operand moves once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..wire.work import Work
from .reductions import (
    BATCH_NORMS,
    CONVOLUTIONS,
    FOLDS,
    GATHERED_LOSSES,
    LAYER_NORMS,
    LOSSES,
    PRODUCTS,
    SCANS,
    SOFTMAXES,
    reduction_length,
)
from .traffic import SECTOR, Operands, tensors, touched

#: Special-function instructions an element (exp, log, sqrt, reciprocal, sin, tanh run on the SFU or as short
#: sequences around it; one is counted for each that the formula contains).
SPECIAL = {
    **dict.fromkeys(
        """exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos tan sinh cosh asin acos atan atan2 erf erfc
        erfinv gelu div elu celu selu pow lgamma digamma logit remainder fmod floor_divide""".split(),
        1.0,
    ),
    **dict.fromkeys("sigmoid silu tanh softplus log_sigmoid_forward logaddexp logaddexp2 xlogy".split(), 2.0),
    "mish": 3.0,
}

#: Shared memory that softmax may keep a row in without opting in to more.
_SOFTMAX_SHARED = 48 * 1024
_TILE = 256  # of a library matrix product: an operand is requested once for every tile of the other
_DOT_UNITS = {
    torch.float16: "dot:fp16",
    torch.bfloat16: "dot:bf16",
    torch.float64: "fp64",
    torch.int8: "dot:int8",
    torch.float8_e4m3fn: "dot:fp8",
    torch.float8_e5m2: "dot:fp8",
}


def dot_unit(dtype: torch.dtype, precision: str, convolution: bool = False) -> str:
    """The unit that multiplies matrices of *dtype* under *precision* (default: TF32 in cuDNN only, as shipped)."""
    if dtype in _DOT_UNITS:
        return _DOT_UNITS[dtype]
    allowed = precision in ("tf32", "any") or (precision == "default" and convolution)
    return "dot:tf32" if allowed else "dot:fp32"


def scalar_unit(dtype: torch.dtype) -> str:
    """Pointwise arithmetic on halves is done in fp32 (``opmath_t``)."""
    if dtype is torch.float64:
        return "fp64"
    return "fp32" if dtype.is_floating_point or dtype.is_complex else "int"


class Call:
    """One call of an operator, with what the handlers below ask of it."""

    def __init__(
        self, func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, moved: Operands
    ) -> None:
        self.func, self.name, self.args, self.kwargs, self.out, self.moved = func, name, args, kwargs, out, moved
        self.x: torch.Tensor = next(tensors((args, tuple(kwargs.values()))), next(tensors(out)))
        self.y: torch.Tensor = next(tensors(out), self.x)
        self.label = str(func._schema.name).replace("::", ".")

    def work(
        self,
        reads: float,
        writes: float,
        flops: Mapping[str, float] | None = None,
        *,
        part: str = "",
        requested: float | None = None,
        programs: int = 0,
        num_warps: int = 4,
        program_bytes: float = 0,
        note: str = "",
    ) -> Work:
        return Work(
            kind="aten",
            name=f"{self.label}:{part}" if part else self.label,
            programs=programs,
            read_bytes=int(reads),
            write_bytes=int(writes),
            requested_bytes=int(reads + writes if requested is None else requested),
            flops={unit: float(count) for unit, count in (flops or {}).items() if count},
            num_warps=num_warps,
            program_bytes=int(program_bytes),
            note=note,
        )


def count(call: Call, precision: str) -> list[Work]:
    """The launches of *call*."""
    name = call.name
    if name in PRODUCTS:
        return [_product(call, precision)]
    if name in CONVOLUTIONS:
        return _convolution(call, precision)
    handler = _HANDLERS.get(name)
    if handler is not None:
        return handler(call)
    return _pointwise(call)


def _pointwise(call: Call) -> list[Work]:
    elements = call.y.numel()
    unit = scalar_unit(call.x.dtype if call.x.dtype.is_floating_point else call.y.dtype)
    flops = {unit: float(elements)}
    if special := SPECIAL.get(call.name):
        flops["special"] = special * elements
    note = "counted as one pass" if call.name.startswith(("linalg_", "_linalg", "_fft", "fft_")) else ""
    return [call.work(call.moved.read_bytes, call.moved.write_bytes, flops, note=note)]


def _product(call: Call, precision: str) -> Work:
    """2·M·N·K. DRAM sees each operand once (L2 serves the other tiles), L2 once for each tile of the other."""
    k = reduction_length(call.func, call.args, call.kwargs, call.out)
    outputs = call.y.numel()
    position = PRODUCTS[call.name]
    first, second = call.args[position], call.args[position + 1]
    m = first.shape[-2] if first.dim() > 1 else 1
    n = max(1, outputs // max(1, m * math.prod(first.shape[:-2])))
    requested = (
        touched(first) * math.ceil(n / _TILE)
        + (touched(second) * math.ceil(m / _TILE) if isinstance(second, torch.Tensor) else 0)
        + call.moved.write_bytes
    )
    complex_factor = 4 if first.dtype.is_complex else 1
    flops = {dot_unit(first.dtype, precision): 2.0 * outputs * k * complex_factor}
    return call.work(call.moved.read_bytes, call.moved.write_bytes, flops, requested=requested)


def _convolution(call: Call, precision: str) -> list[Work]:
    """cuDNN: on tensor cores in NHWC with channels padded to 8 (cuDNN Developer Guide, "Tensor Core usage"), between
    conversions from and to NCHW; the bias is a kernel of PyTorch's own. Depthwise convolutions are fp32 kernels."""
    x, weight, bias = call.args[0], call.args[1], call.args[2]
    transposed, groups = bool(call.args[6]), int(call.args[8])
    kernel = math.prod(weight.shape[2:])
    depthwise = groups > 1 and groups == x.shape[1]
    unit = "dot:fp32" if depthwise and x.dtype is torch.float32 else dot_unit(x.dtype, precision, convolution=True)
    tensor_cores = unit not in ("dot:fp32", "fp64")
    cin, cout = x.shape[1] // groups, call.y.shape[1] // groups
    if tensor_cores:
        cin, cout = math.ceil(cin / 8) * 8, math.ceil(cout / 8) * 8
    positions = x.numel() // x.shape[1] if transposed else call.y.numel() // call.y.shape[1]
    flops = {unit: 2.0 * positions * groups * cin * cout * kernel}
    reads, writes = touched(x) + touched(weight), touched(call.y)
    works = [call.work(reads, writes, flops)]
    nhwc = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and x.shape[1] > 1
    if tensor_cores and not nhwc and not depthwise:
        works.insert(0, call.work(touched(x), touched(x), part="to_nhwc"))
        works.append(call.work(writes, writes, part="to_nchw"))
    if isinstance(bias, torch.Tensor):
        works.append(call.work(writes + touched(bias), writes, {"fp32": call.y.numel()}, part="bias"))
    return works


def _softmax(call: Call) -> list[Work]:
    """One warp a row up to 1,024 elements; then one block of 1,024 threads a row, reading it once where it fits into
    shared memory and three times (maximum, sum, result) where it does not. Along another dimension: three times."""
    x = call.x
    dim = int(call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else -1)) % max(x.dim(), 1)
    n = x.shape[dim] if x.dim() else 1
    rows = x.numel() // max(n, 1)
    row_bytes = n * x.element_size()
    innermost = math.prod(x.shape[dim + 1 :]) == 1
    short = innermost and n <= 1024
    passes = 1 if short or (innermost and row_bytes <= _SOFTMAX_SHARED) else 3
    return [
        call.work(
            call.moved.read_bytes,
            call.moved.write_bytes,
            {"fp32": 3.0 * x.numel(), "special": 2.0 * x.numel()},
            requested=passes * call.moved.read_bytes + call.moved.write_bytes,
            programs=rows if innermost and not short else 0,
            num_warps=32,
            program_bytes=2 * row_bytes if innermost else 0,
            note=f"{passes} reads of each row",
        )
    ]


def _layer_norm(call: Call) -> list[Work]:
    """One block of 128 threads a row, which reads it twice: few long rows leave most of a GPU idle."""
    n = math.prod(call.args[1])
    rows = call.x.numel() // max(n, 1)
    parameters = sum(touched(value) for value in tensors(call.args[2:]))
    data = touched(call.x)
    return [
        call.work(
            call.moved.read_bytes,
            call.moved.write_bytes,
            {"fp32": 6.0 * call.x.numel(), "special": rows},
            requested=2 * data + call.moved.write_bytes + rows * parameters,
            programs=rows,
            program_bytes=2 * n * call.x.element_size() + parameters,
            note="one program a row, read twice",
        )
    ]


def _group_norm(call: Call) -> list[Work]:
    """Moments, one block of 512 threads a group, then a pointwise kernel."""
    x = call.x
    groups = x.shape[0] * int(call.args[6])
    data = touched(x)
    return [
        call.work(data, 8 * groups, {"fp32": 4.0 * x.numel()}, part="moments", programs=groups, num_warps=16),
        call.work(call.moved.read_bytes, data, {"fp32": 2.0 * x.numel()}, part="apply"),
    ]


def _batch_norm(call: Call) -> list[Work]:
    training = next((value for value in call.args[3:] if isinstance(value, bool)), True)
    x, data = call.x, touched(call.x)
    apply = call.work(call.moved.read_bytes, data, {"fp32": 2.0 * x.numel()}, part="apply")
    if not training:
        return [apply]
    return [call.work(data, 8 * x.shape[1], {"fp32": 4.0 * x.numel()}, part="statistics"), apply]


def _fold(call: Call) -> list[Work]:
    """Reductions are split over as many blocks as fill the GPU: one read."""
    return [
        call.work(call.moved.read_bytes, call.moved.write_bytes, {scalar_unit(call.x.dtype): float(call.x.numel())})
    ]


def _logsumexp(call: Call) -> list[Work]:
    """Composed of amax, subtract, exp and sum, with a temporary as large as the input."""
    data, n = touched(call.x), float(call.x.numel())
    result = call.moved.write_bytes
    return [
        call.work(data, result, {"fp32": n}, part="amax"),
        call.work(data + result, data, {"fp32": n}, part="sub"),
        call.work(data, data, {"special": n}, part="exp"),
        call.work(data, result, {"fp32": n}, part="sum"),
    ]


def _loss(call: Call) -> list[Work]:
    """A pointwise kernel, then (for mean and sum) a reduction of its result."""
    works = _pointwise(call)
    if call.y.numel() >= call.x.numel():
        return works
    data, n = touched(call.x), float(call.x.numel())
    return [
        call.work(call.moved.read_bytes, data, {"fp32": 2 * n}),
        call.work(data, call.moved.write_bytes, {"fp32": n}, part="reduce"),
    ]


def _nll_loss(call: Call) -> list[Work]:
    """Gathers one element a row; the mean over a batch is taken by a single block of one warp."""
    targets = call.args[1].numel()
    reads = min(touched(call.x), targets * SECTOR) + touched(call.args[1])
    single = call.y.numel() == 1
    return [
        call.work(reads, call.moved.write_bytes, {"fp32": float(targets)}, programs=1 if single else 0, num_warps=1)
    ]


def _gather(call: Call) -> list[Work]:
    """Reads what is gathered (whole sectors), not the whole table."""
    source = call.args[0]
    contiguous = source.shape[-1] if call.name in ("embedding", "index_select", "index") and source.dim() > 1 else 1
    piece = contiguous * source.element_size()
    moved = call.y.numel() * source.element_size() * max(1.0, SECTOR / piece)
    indices = sum(touched(value) for value in tensors(call.args[1:]))
    return [call.work(min(touched(source), moved) + indices, call.moved.write_bytes)]


def _scatter(call: Call) -> list[Work]:
    """Writes where the indices point; out of place, after a copy."""
    rest = list(tensors((call.args[1:], tuple(call.kwargs.values()))))
    pieces = max((value.numel() for value in rest), default=0)
    hit = min(touched(call.x), pieces * SECTOR)
    works = [call.work(sum(map(touched, rest)) + hit, hit, {scalar_unit(call.x.dtype): float(pieces)})]
    if call.y is not call.x and not call.label.endswith("_"):
        works.insert(0, call.work(touched(call.x), touched(call.x), part="copy"))
    return works


def _sort(call: Call) -> list[Work]:
    """Radix sort of keys with 64-bit positions: 8 bits a pass, each of which reads and writes both."""
    item = call.x.element_size()
    passes = item if call.x.numel() else 0
    moved = call.x.numel() * (item + 8)
    return [call.work(passes * moved, passes * moved, {"int": 4.0 * passes * call.x.numel()}, note="radix sort")]


def _topk(call: Call) -> list[Work]:
    """Radix selection reads each slice about five times (2 bits of the key at a time, most of them from cache)."""
    data = call.moved.read_bytes
    requested = 5 * data + call.moved.write_bytes
    return [call.work(data, call.moved.write_bytes, {"int": 5.0 * call.x.numel()}, requested=requested)]


def _pool(call: Call) -> list[Work]:
    """Overlapping windows are requested again; max-pool also writes 64-bit positions."""
    window = call.args[1]
    size = math.prod(window) if len(window) > 1 else int(window[0]) ** (2 if "2d" in call.name else 3)
    asked = call.y.numel() * size * call.x.element_size() + call.moved.write_bytes
    return [
        call.work(
            call.moved.read_bytes, call.moved.write_bytes, {"fp32": float(call.y.numel() * size)}, requested=asked
        )
    ]


def _pad(call: Call) -> list[Work]:
    """Fill the result, then copy into its middle."""
    data = touched(call.x)
    return [call.work(0, call.moved.write_bytes, part="fill"), call.work(data, data, part="copy")]


def _scan(call: Call) -> list[Work]:
    return [call.work(call.moved.read_bytes, call.moved.write_bytes, {scalar_unit(call.x.dtype): 2.0 * call.x.numel()})]


def fused_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> Work:
    """``scaled_dot_product_attention`` as its CUDA kernels do it: no matrix of scores in memory, K and V read once
    for every 64 queries. fp32 runs as three TF32 products (CUTLASS ``OpMultiplyAddFastF32``), whatever the policy."""
    heads, queries, keys = math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2]
    products = 2.0 * heads * queries * keys * (q.shape[-1] + v.shape[-1]) * (0.5 if causal else 1.0)
    fp32 = q.dtype is torch.float32
    flops = {("dot:tf32" if fp32 else dot_unit(q.dtype, "strict")): products * (3 if fp32 else 1)}
    flops["special"] = float(heads * queries * keys) * (0.5 if causal else 1.0)
    out = heads * queries * v.shape[-1] * q.element_size()
    blocks = math.ceil(queries / 64)
    return Work(
        kind="aten",
        name="aten.scaled_dot_product_attention",
        programs=heads * blocks,
        read_bytes=touched(q) + touched(k) + touched(v),
        write_bytes=out,
        requested_bytes=touched(q) + out + blocks * (touched(k) + touched(v)),
        flops=flops,
        num_warps=4,
        note="fused kernel",
    )


_HANDLERS: dict[str, Callable[[Call], list[Work]]] = {
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(LAYER_NORMS, _layer_norm),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **dict.fromkeys(FOLDS, _fold),
    **dict.fromkeys(SCANS, _scan),
    **dict.fromkeys(LOSSES, _loss),
    **dict.fromkeys(("index", "gather", "index_select", "embedding", "take", "_unsafe_index"), _gather),
    **dict.fromkeys(
        """index_put _index_put_impl scatter scatter_add scatter_reduce index_add index_copy index_reduce
        masked_scatter""".split(),
        _scatter,
    ),
    **dict.fromkeys(("sort", "argsort", "msort", "unique_dim", "_unique2"), _sort),
    **dict.fromkeys(("topk", "kthvalue", "median", "nanmedian", "mode"), _topk),
    **dict.fromkeys(
        ("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"),
        _pool,
    ),
    "native_group_norm": _group_norm,
    "logsumexp": _logsumexp,
    **dict.fromkeys(GATHERED_LOSSES, _nll_loss),
    "constant_pad_nd": _pad,
}
