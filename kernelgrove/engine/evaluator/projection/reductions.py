"""How many terms an ATen operator adds up for one element of its result: K in the correctness tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: operators whose result is smaller than their input because they fold it
FOLDS = frozenset(
    """sum nansum mean nanmean amax amin max min argmax argmin aminmax any all prod norm linalg_vector_norm
    var std var_mean std_mean logsumexp count_nonzero trace median nanmedian mode kthvalue hash_tensor""".split()
)
#: matrix products: position of the operand whose last dimension is folded
PRODUCTS = {
    "mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "addbmm": 1, "mv": 0, "addmv": 1, "dot": 0, "vdot": 0,
    "_addmm_activation": 1, "_int_mm": 0, "_scaled_mm": 0, "linear": 0, "_euclidean_dist": 0, "_cdist_forward": 0,
}  # fmt: skip
SOFTMAXES = frozenset({"_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax"})
SCANS = frozenset({"cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"})
LAYER_NORMS = frozenset({"native_layer_norm", "_fused_rms_norm"})
BATCH_NORMS = frozenset(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional cudnn_batch_norm
    _batch_norm_with_update batch_norm_stats""".split()
)
LOSSES = frozenset(
    """mse_loss smooth_l1_loss huber_loss binary_cross_entropy soft_margin_loss multi_margin_loss
    multilabel_margin_loss_forward""".split()
)
GATHERED_LOSSES = frozenset({"nll_loss_forward", "nll_loss2d_forward"})
CONVOLUTIONS = frozenset({"convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"})
_ATTENTION = frozenset(
    """_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention""".split()
)


def op_name(func: Any) -> str:
    """``convolution`` for ``aten.convolution.default``; ``relu`` for ``relu_``."""
    name = str(func._schema.name).rsplit("::", 1)[-1]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def reduction_length(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Number of terms that one element of the result of *func* accumulates; 1 for a pointwise operator."""
    name = op_name(func)
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not tensors:
        return 1
    x = tensors[0]
    first = _first_tensor(out)
    if name in PRODUCTS:
        operand = args[PRODUCTS[name]] if len(args) > PRODUCTS[name] else x
        inner = operand.shape[-1] if isinstance(operand, torch.Tensor) and operand.dim() else 1
        return int(inner * (operand.shape[0] if name == "addbmm" else 1))
    if name in CONVOLUTIONS:
        weight, transposed = args[1], bool(len(args) > 6 and args[6])
        groups = int(args[8]) if len(args) > 8 else 1
        channels = weight.shape[0] // groups if transposed else weight.shape[1]
        return int(channels * math.prod(weight.shape[2:]))
    if name in SOFTMAXES or name in SCANS:
        return _size(x, kwargs.get("dim", args[1] if len(args) > 1 else -1))
    if name in LAYER_NORMS:
        return math.prod(args[1])
    if name == "native_group_norm":
        return int(x.numel() // max(x.shape[0] * int(args[6]), 1))
    if name in BATCH_NORMS:
        training = next((value for value in args[3:] if isinstance(value, bool)), True)
        return x.numel() // max(x.shape[1], 1) if training and x.dim() > 1 else 1
    if name in _ATTENTION:
        return int(max(args[1].shape[-2], x.shape[-1]))
    if name.startswith(("avg_pool", "_adaptive_avg_pool", "adaptive_avg_pool")):
        if "adaptive" in name:
            return _ratio(x, first)
        return math.prod(args[1]) if len(args[1]) > 1 else int(args[1][0]) ** (x.dim() - 2)
    if name in ("index_add", "scatter_add", "scatter_reduce", "index_reduce", "embedding_bag", "_embedding_bag"):
        return _size(x, args[1]) if len(args) > 1 and isinstance(args[1], int) else x.shape[0]
    if name in GATHERED_LOSSES and first is not None:
        targets: int = args[1].numel()
        return math.ceil(targets / max(first.numel(), 1))
    if name in FOLDS or name in LOSSES:
        return _ratio(x, first)
    return 1


class LongestReduction(TorchDispatchMode):
    """While active, keeps in ``k`` the longest reduction that any ATen operator performs (at least 1).

    Works on meta tensors, so that the reference can be asked at full size for nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.k = 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.k = max(self.k, reduction_length(func, args, kwargs, out))
        return out


def _size(x: torch.Tensor, dim: Any) -> int:
    return int(x.shape[int(dim)]) if x.dim() else 1


def _ratio(x: torch.Tensor, out: torch.Tensor | None) -> int:
    return 1 if out is None else math.ceil(x.numel() / max(out.numel(), 1))


def _first_tensor(out: Any) -> torch.Tensor | None:
    if isinstance(out, torch.Tensor):
        return out
    if isinstance(out, tuple | list):
        return next((value for value in out if isinstance(value, torch.Tensor)), None)
    return None
