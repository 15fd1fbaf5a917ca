"""Handlers for operations over whole dimensions: reductions, scans, softmax, norms and losses, written out."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import fx

from .elementwise import operand, setting
from .graph import COLUMN, COUNT, Value
from .lower import Call, NotHandled, handles, module_text, spelled


def _dims(call: Call, index: int = 1, name: str = "dim") -> tuple[int, ...] | None:
    """The dimensions reduced, None for all of them."""
    dims = call.plain(index, name, call.plain(9, "axis"))
    if dims is None:
        return None
    return tuple(dims) if isinstance(dims, list | tuple) else (int(dims),)


def _over(call: Call, kind: str, x: Value, dims: tuple[int, ...] | None, keep: bool) -> Value:
    every = tuple(range(len(x.shape)))
    return call.reduce(kind, x, dims if dims else every, keep)


@handles("sum", "mean", "amax", "amin")
def _reduction(call: Call) -> Value:
    kind = {"amax": "max", "amin": "min"}.get(call.name, call.name)
    if call.plain(3, "dtype") is not None:
        raise NotHandled
    x = operand(call)
    if x.dtype == "bool":
        raise NotHandled
    return _over(call, kind, x, _dims(call), bool(call.plain(2, "keepdim", False)))


@handles("argmax", "argmin")
def _arg_reduction(call: Call) -> Value:
    dims = _dims(call)
    if dims is None:
        raise NotHandled
    return call.reduce(call.name, operand(call), dims, bool(call.plain(2, "keepdim", False)))


@handles("max", "min")
def _extreme(call: Call) -> Value:
    kind = call.name
    if isinstance(call.raw(1, "other"), fx.Node):
        return call.op(f"{kind}imum", operand(call), call.value(1, "other"))
    if _dims(call) is not None:
        raise NotHandled  # a pair (values, indices); see getitem
    return _over(call, kind, operand(call), None, False)


@handles("getitem")
def _getitem(call: Call) -> Value:
    """``max(dim)[0]`` and ``[1]``, and indexing that only adds dimensions of size one."""
    source, index = call.raw(0), call.raw(1)
    if not isinstance(source, fx.Node):
        raise NotHandled
    name = spelled(source, None)
    if name in ("max", "min") and index in (0, 1) and isinstance(source.meta["val"], tuple):
        pair = Call(call.lowered, source, None)
        dims = _dims(pair)
        if dims is None:
            raise NotHandled
        kind = name if index == 0 else f"arg{name}"
        return call.reduce(kind, pair.value(0, "input"), dims, bool(pair.plain(2, "keepdim", False)))
    x = operand(call)
    parts = index if isinstance(index, tuple) else (index,)
    if x.op == "tensor" or any(p is not None and p is not Ellipsis and p != slice(None) for p in parts):
        raise NotHandled
    return call.view(x, tuple(call.result.shape))


@handles("var", "std")
def _variance(call: Call) -> Value:
    x = operand(call)
    second = call.raw(1, "dim")
    if isinstance(second, bool):
        raise NotHandled
    unbiased = call.plain(2, "unbiased", None)
    correction = call.plain(9, "correction", 1 if unbiased is None or unbiased else 0)
    if correction not in (0, 1):
        raise NotHandled
    keep = bool(call.plain(3, "keepdim", False))
    dims = _dims(call) or tuple(range(len(x.shape)))
    mean = call.reduce("mean", x, dims, True)
    squares = call.op("square", call.op("sub", x, mean))
    if correction == 0:
        result = call.reduce("mean", squares, dims, keep)
    else:
        result = call.op("div", call.reduce("sum", squares, dims, keep), Value(COUNT, number=-1))
    return call.op("sqrt", result) if call.name == "std" else result


@handles("norm", "vector_norm", "linalg_vector_norm", "linalg_norm")
def _norm(call: Call) -> Value:
    x = operand(call)
    p = call.plain(1, "p" if "p" in call.node.kwargs else "ord", 2)
    if p not in (1, 2, "fro", None):
        raise NotHandled
    return _p_norm(call, x, 1 if p == 1 else 2, _dims(call, 2), bool(call.plain(3, "keepdim", False)))


def _p_norm(call: Call, x: Value, p: int, dims: tuple[int, ...] | None, keep: bool) -> Value:
    if p == 1:
        return _over(call, "sum", call.op("abs", x), dims, keep)
    return call.op("sqrt", _over(call, "sum", call.op("square", x), dims, keep))


@handles("normalize")
def _normalize(call: Call) -> Value:
    x = operand(call)
    p = call.plain(1, "p", 2.0)
    if p not in (1, 2):
        raise NotHandled
    norm = _p_norm(call, x, int(p), (int(call.plain(2, "dim", 1)),), True)
    return call.op("div", x, call.op("maximum", norm, float(call.plain(3, "eps", 1e-12))))


# ----------------------------------------------------------------------------------------- softmax family


def _softmax_dim(call: Call) -> int:
    dim = setting(call, 1, "dim")
    if dim is None:
        raise NotHandled
    return int(dim)


def _shifted(call: Call, x: Value, dim: int) -> tuple[Value, Value, Value, Value]:
    peak = call.reduce("max", x, (dim,), True)
    shifted = call.op("sub", x, peak)
    power = call.op("exp", shifted)
    return peak, shifted, power, call.reduce("sum", power, (dim,), True)


@handles("softmax", "Softmax", "softmin", "Softmin")
def _softmax(call: Call) -> Value:
    x, dim = operand(call), _softmax_dim(call)
    if call.name.lower() == "softmin":
        x = call.op("neg", x)
    _, _, power, total = _shifted(call, x, dim)
    return call.op("div", power, total)


@handles("log_softmax", "LogSoftmax")
def _log_softmax(call: Call) -> Value:
    x, dim = operand(call), _softmax_dim(call)
    _, shifted, _, total = _shifted(call, x, dim)
    return call.op("sub", shifted, call.op("log", total))


@handles("logsumexp")
def _logsumexp(call: Call) -> Value:
    x, dims, keep = operand(call), _dims(call), bool(call.plain(2, "keepdim", False))
    if dims is None or len(dims) != 1:
        raise NotHandled
    peak, _, _, total = _shifted(call, x, dims[0])
    result = call.op("add", peak, call.op("log", total))
    return result if keep else call.view(result, tuple(call.result.shape))


# -------------------------------------------------------------------------------------------------- norms


def _normalised(call: Call, x: Value, dims: tuple[int, ...], eps: float) -> Value:
    mean = call.reduce("mean", x, dims, True)
    centred = call.op("sub", x, mean)
    variance = call.reduce("mean", call.op("square", centred), dims, True)
    return call.op("mul", centred, call.op("rsqrt", call.op("add", variance, eps)))


def _affine(call: Call, x: Value, weight: Value | None, bias: Value | None) -> Value:
    x = call.op("mul", x, weight) if weight is not None else x
    return call.op("add", x, bias) if bias is not None else x


def _tensor(call: Call, index: int, name: str) -> Value | None:
    """An optional weight, of the module or given."""
    if call.module is not None:
        return call.attribute(name) if getattr(call.module, name, None) is not None else None
    return call.value(index, name) if call.raw(index, name) is not None else None


@handles("layer_norm", "LayerNorm")
def _layer_norm(call: Call) -> Value:
    x = operand(call)
    rank = len(setting(call, 1, "normalized_shape"))
    dims = tuple(range(len(x.shape) - rank, len(x.shape)))
    normal = _normalised(call, x, dims, float(setting(call, 4, "eps", 1e-5)))
    return _affine(call, normal, _tensor(call, 2, "weight"), _tensor(call, 3, "bias"))


@handles("rms_norm", "RMSNorm")
def _rms_norm(call: Call) -> Value:
    x = operand(call)
    rank = len(setting(call, 1, "normalized_shape"))
    dims = tuple(range(len(x.shape) - rank, len(x.shape)))
    eps = setting(call, 3, "eps")
    square = call.reduce("mean", call.op("square", x), dims, True)
    normal = call.op("mul", x, call.op("rsqrt", call.op("add", square, 2.0**-23 if eps is None else float(eps))))
    return _affine(call, normal, _tensor(call, 2, "weight"), None)


@handles("group_norm", "GroupNorm")
def _group_norm(call: Call) -> Value:
    x = operand(call)
    groups = int(setting(call, 1, "num_groups"))
    if call.module is not None:
        text = f"{module_text(str(call.node.target))}.num_groups"
    else:
        raw = call.raw(1, "num_groups")
        text = call.lowered.value[raw].text if isinstance(raw, fx.Node) else str(groups)
    batch, channels = x.shape[:2]
    inner = prod(x.shape[2:])
    grouped = call.view(x, (batch, groups, channels // groups, inner), {1: text})
    normal = _normalised(call, grouped, (2, 3), float(setting(call, 4, "eps", 1e-5)))
    return _channel_affine(call, call.view(normal, x.shape), x, 2, 3)


@handles("instance_norm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
def _instance_norm(call: Call) -> Value:
    x = operand(call)
    if call.module is None or call.module.track_running_stats or len(x.shape) < 3:
        raise NotHandled
    normal = _normalised(call, x, tuple(range(2, len(x.shape))), float(setting(call, 7, "eps", 1e-5)))
    return _channel_affine(call, normal, x, 3, 4)


@handles("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
def _batch_norm(call: Call) -> Value:
    """With running statistics (evaluation mode) it is a pointwise scale and shift by channel."""
    module: Any = call.module
    if module.training or module.running_mean is None:
        raise NotHandled
    x = operand(call)
    scale = call.op("rsqrt", call.op("add", call.attribute("running_var"), float(module.eps)))
    centred = call.op("sub", x, _by_channel(call, call.attribute("running_mean"), x))
    return _channel_affine(call, call.op("mul", centred, _by_channel(call, scale, x)), x, 3, 4)


def _by_channel(call: Call, vector: Value, x: Value) -> Value:
    """A vector over dimension 1, shaped to broadcast against *x*."""
    return call.view(vector, (vector.shape[0], *(1 for _ in x.shape[2:])))


def _channel_affine(call: Call, value: Value, x: Value, weight_at: int, bias_at: int) -> Value:
    weight, bias = _tensor(call, weight_at, "weight"), _tensor(call, bias_at, "bias")
    shaped = [_by_channel(call, t, x) if t is not None else None for t in (weight, bias)]
    return _affine(call, value, *shaped)


@handles("PReLU", "prelu")
def _prelu(call: Call) -> Value:
    x = operand(call)
    weight = _tensor(call, 1, "weight")
    if weight is None:
        raise NotHandled
    slope = _by_channel(call, weight, x) if len(x.shape) > 1 and weight.numel > 1 else weight
    return call.op("where", call.op("gt", x, 0.0), x, call.op("mul", x, slope))


# ------------------------------------------------------------------------------------------ scans, losses


@handles("cumsum", "cumprod")
def _cumulative(call: Call) -> Value:
    dim = _dims(call)
    if dim is None or call.plain(2, "dtype") is not None:
        raise NotHandled
    return call.scan(call.name.removeprefix("cum"), operand(call), dim[0])


@handles("cross_entropy", "CrossEntropyLoss")
def _cross_entropy(call: Call) -> Value:
    """A row's loss is logsumexp(logits) - logits[target]; rows with the ignored target are left out."""
    logits, target = operand(call), call.value(1, "target")
    ignored = int(setting(call, 4 if call.module is None else 9, "ignore_index", -100))
    plain_weights = (_tensor(call, 2, "weight") if call.module is None else call.module.weight) is None
    reduction = setting(call, 6, "reduction", "mean")
    smoothing = float(setting(call, 7, "label_smoothing", 0.0))
    if not plain_weights or smoothing or reduction not in ("none", "mean", "sum") or len(logits.shape) != 2:
        raise NotHandled
    if target.dtype != "int64" or target.shape != logits.shape[:1]:
        raise NotHandled
    peak, _, _, total = _shifted(call, logits, 1)
    column = Value(COLUMN, (), (logits.shape[1],), "int64")
    wanted = call.view(target, (target.shape[0], 1))
    picked = call.reduce("sum", call.op("where", call.op("eq", column, wanted), logits, 0.0), (1,), True)
    counted = call.op("ne", wanted, ignored)
    loss = call.op("where", counted, call.op("sub", call.op("add", peak, call.op("log", total)), picked), 0.0)
    if reduction == "none":
        return call.view(loss, target.shape)
    summed = call.reduce("sum", loss, (0, 1), False)
    if reduction == "sum":
        return summed
    again = call.op("ne", call.view(target, (target.shape[0], 1)), ignored)  # a later kernel's: it reads targets anew
    valid = call.reduce("sum", call.op("where", again, 1.0, 0.0), (0, 1), False)
    return call.op("div", summed, valid)


@handles("mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss")
def _elementwise_loss(call: Call) -> Value:
    name = call.name.lower().replace("_", "")
    a, b = operand(call), call.value(1, "target")
    reduction = setting(call, 4, "reduction", "mean")
    if reduction not in ("mean", "sum") or a.shape != b.shape or call.node.kwargs.get("weight") is not None:
        raise NotHandled
    difference = call.op("sub", a, b)
    if name == "mseloss":
        each = call.op("square", difference)
    elif name == "l1loss":
        each = call.op("abs", difference)
    else:
        beta = float(setting(call, 5, "beta", 1.0))
        size = call.op("abs", difference)
        quadratic = call.op("mul", call.op("square", difference), 0.5 / beta)
        each = call.op("where", call.op("lt", size, beta), quadratic, call.op("sub", size, 0.5 * beta))
    return _over(call, reduction, each, None, False)
