"""Counts what eager PyTorch would launch on a GPU, one ``Work`` a kernel, while a module runs on meta tensors."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..wire.work import Work
from .operators import Call, count, fused_attention
from .reductions import op_name
from .traffic import operands, tensors, touched

#: Allocations and reads of values, which launch nothing.
_SILENT = frozenset(
    """empty empty_strided empty_like empty_permuted empty_quantized new_empty new_empty_strided resize resize_as set
    _local_scalar_dense item lift lift_fresh record_stream _assert_async sym_size sym_stride sym_numel
    sym_storage_offset is_same_size _has_compatible_shallow_copy_type scalar_tensor""".split()
)


class AtenCounter(TorchDispatchMode):
    """Records a ``Work(kind="aten")`` for every kernel that the ATen operators run inside would launch.

    Views and allocations record nothing; some operators are several launches (a convolution is also its layout
    conversions and its bias). *precision* (default, strict, tf32, any) says which products run as TF32.
    *device*, when given (``"meta"``), leaves operators on other devices out: they would run on the host.
    Three composite operators that have a CUDA kernel of their own, and would be taken apart on other devices, are
    counted as that kernel: attention, dropout and RMS norm.
    """

    def __init__(self, record: Callable[[Work], None], precision: str = "default", device: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._record = record
        self._precision = precision
        self._device = device
        self._functions = _Composites(self)
        self._paused = 0

    def __enter__(self) -> AtenCounter:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._functions.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._functions.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._paused and func.namespace in ("aten", "prims"):
            self._count(func, args, kwargs, out)
        return out

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        name = op_name(func)
        if name in _SILENT or func.is_view or next(tensors(out), None) is None:
            return
        moved = operands(func, args, kwargs, out, name)
        if not moved.writes or (self._device is not None and moved.writes[0].device.type != self._device):
            return
        if moved.read_bytes + moved.write_bytes == 0:
            return
        for work in count(Call(func, name, args, kwargs, out, moved), self._precision):
            self._record(work)

    def composite(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run *function* with its parts uncounted and count it as one kernel."""
        self._paused += 1
        try:
            out = function(*args, **kwargs)
        finally:
            self._paused -= 1
        if not self._paused and isinstance(out, torch.Tensor):
            for work in _FUSED[name](out, args, kwargs):
                self._record(work)
        return out


class _Composites(TorchFunctionMode):
    """Sees composite operators before they are taken apart."""

    def __init__(self, counter: AtenCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _FUSED and _applies(name, args, kwargs):
            return self._counter.composite(name, func, args, kwargs)
        return func(*args, **kwargs)


def reference_works(
    forward: Callable[[], object], precision: str = "default", device: str | None = "meta"
) -> list[Work]:
    """What eager PyTorch launches for one call of *forward*, which should run on meta tensors (no memory, no time).

    Raises what *forward* raises: an operator that needs values (``item``, ``nonzero``) cannot run on meta.
    """
    works: list[Work] = []
    with torch.no_grad(), AtenCounter(works.append, precision, device):
        forward()
    return works


def _applies(name: str, args: Any, kwargs: Any) -> bool:
    x = args[0] if args else None
    if not isinstance(x, torch.Tensor):
        return False
    if name == "scaled_dot_product_attention":
        return x.dim() == 4 and len(args) >= 3  # the fused kernels take four dimensions, others are composed
    if name == "dropout":
        p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        train = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
        return bool(train) and 0 < float(p) < 1 and x.numel() > 0
    return True


def _attention(out: torch.Tensor, args: Any, kwargs: Any) -> list[Work]:
    return [fused_attention(args[0], args[1], args[2], bool(args[5] if len(args) > 5 else kwargs.get("is_causal")))]


def _dropout(out: torch.Tensor, args: Any, kwargs: Any) -> list[Work]:
    """One kernel that reads, writes and keeps a mask of one byte an element (Dropout.cu)."""
    data, n = touched(args[0]), out.numel()
    moved = data + touched(out) + n
    flops = {"fp32": 2.0 * n, "int": 10.0 * n}  # Philox: about 40 integer operations for four numbers
    return [Work("aten", "aten.native_dropout", 0, data, touched(out) + n, moved, flops)]


def _rms_norm(out: torch.Tensor, args: Any, kwargs: Any) -> list[Work]:
    """The layer norm kernel without a mean: one block of 128 threads a row, read twice."""
    n = 1
    for size in args[1] if len(args) > 1 else kwargs["normalized_shape"]:
        n *= int(size)
    data, rows = touched(args[0]), out.numel() // max(n, 1)
    weight = sum(touched(value) for value in tensors((args[2:], tuple(kwargs.values()))))
    return [
        Work(
            kind="aten",
            name="aten._fused_rms_norm",
            programs=rows,
            read_bytes=data + weight,
            write_bytes=touched(out),
            requested_bytes=2 * data + touched(out) + rows * weight,
            flops={"fp32": 4.0 * out.numel(), "special": float(rows)},
            program_bytes=2 * n * out.element_size() + weight,
            note="one program a row, read twice",
        )
    ]


_FUSED: dict[str, Callable[[torch.Tensor, Any, Any], list[Work]]] = {
    "scaled_dot_product_attention": _attention,
    "dropout": _dropout,
    "rms_norm": _rms_norm,
}
