"""Handlers for pointwise operations: arithmetic, activations, comparisons, casts and changes of shape."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from .graph import VIEW, Value
from .lower import Call, NotHandled, handles

_UNARY = {
    "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt", "abs": "abs", "neg": "neg", "sigmoid": "sigmoid",
    "Sigmoid": "sigmoid", "tanh": "tanh", "Tanh": "tanh", "relu": "relu", "ReLU": "relu", "square": "square",
    "reciprocal": "reciprocal", "erf": "erf", "sin": "sin", "cos": "cos", "floor": "floor", "ceil": "ceil",
    "exp2": "exp2", "log2": "log2", "log1p": "log1p", "expm1": "expm1", "logical_not": "not",
}  # fmt: skip

_BINARY = {
    "mul": "mul", "multiply": "mul", "maximum": "maximum", "minimum": "minimum", "lt": "lt", "le": "le", "gt": "gt",
    "ge": "ge", "eq": "eq", "ne": "ne", "less": "lt", "greater": "gt", "logical_and": "and", "logical_or": "or",
    "and_": "and", "or_": "or",
}  # fmt: skip

SQRT_HALF = 0.7071067811865476
SQRT_2_OVER_PI = 0.7978845608028654


def setting(call: Call, index: int, name: str, default: Any = None) -> Any:
    """A plain argument of a function, or the attribute of the same name of a module."""
    return getattr(call.module, name) if call.module is not None else call.plain(index, name, default)


def operand(call: Call, index: int = 0, name: str = "input") -> Value:
    return call.value(index, name)


def _unary(call: Call) -> Value:
    return call.op(_UNARY[call.name], operand(call))


def _binary(call: Call) -> Value:
    name = _BINARY[call.name]
    a, b = operand(call), call.value(1, "other")
    return call.op("square", a) if name == "mul" and a is b else call.op(name, a, b)


handles(*_UNARY)(_unary)
handles(*_BINARY)(_binary)


@handles("add", "sub", "subtract", "rsub")
def _add(call: Call) -> Value:
    name = call.name
    a, b = operand(call), call.value(1, "other")
    if name == "rsub":
        a, b = b, a
    alpha = call.plain(2, "alpha", 1)
    if alpha != 1:
        if name == "rsub":
            raise NotHandled
        b = call.op("mul", b, alpha)
    return call.op("add" if name == "add" else "sub", a, b)


@handles("div", "truediv", "divide", "true_divide")
def _div(call: Call) -> Value:
    if call.plain(2, "rounding_mode") is not None:
        raise NotHandled
    return call.op("div", operand(call), call.value(1, "other"))


@handles("pow", "float_power")
def _pow(call: Call) -> Value:
    return power(call, operand(call), call.value(1, "exponent"))


def power(call: Call, base: Value, exponent: Value) -> Value:
    """``base ** exponent`` for whole and half exponents up to 8, by products and a root; ``2 ** x``.

    Others are PyTorch's: exp2(p log2(x)) loses as many digits as p log2(x) has before its point.
    """
    if base.is_number(2):
        return call.op("exp2", exponent)
    if exponent.op != "number" or not isinstance(exponent.number, int | float):
        raise NotHandled
    p = float(exponent.number)
    direct = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}
    if p in direct:
        return call.op(direct[p], base)
    if 2 * p != int(2 * p) or not 1 < abs(p) <= 8:
        raise NotHandled
    factors = [base] * int(abs(p)) + ([call.op("sqrt", base)] if p != int(p) else [])
    result = call.op("square", base) if factors[0] is factors[1] else call.op("mul", *factors[:2])
    for factor in factors[2:]:
        result = call.op("mul", result, factor)
    return result if p > 0 else call.op("reciprocal", result)


@handles("clamp", "clip")
def _clamp(call: Call) -> Value:
    return _bounded(call, call.raw(1, "min"), call.raw(2, "max"))


@handles("clamp_min")
def _clamp_min(call: Call) -> Value:
    return _bounded(call, call.raw(1, "min"), None)


@handles("clamp_max")
def _clamp_max(call: Call) -> Value:
    return _bounded(call, None, call.raw(1, "max"))


@handles("relu6", "ReLU6")
def _relu6(call: Call) -> Value:
    return _bounded(call, 0.0, 6.0)


@handles("hardtanh", "Hardtanh")
def _hardtanh(call: Call) -> Value:
    return _bounded(call, setting(call, 1, "min_val", -1.0), setting(call, 2, "max_val", 1.0))


def _bounded(call: Call, low: Any, high: Any) -> Value:
    x = operand(call)
    if low is not None:
        x = call.op("maximum", x, call.lift(low))
    if high is not None:
        x = call.op("minimum", x, call.lift(high))
    return x


@handles("gelu", "GELU")
def _gelu(call: Call) -> Value:
    x = operand(call)
    if setting(call, 1, "approximate", "none") == "tanh":  # 0.5 x (1 + tanh(u)) = x sigmoid(2 u)
        cube = call.op("mul", call.op("square", x), x)
        inner = call.op("add", x, call.op("mul", cube, 0.044715))
        return call.op("mul", x, call.op("sigmoid", call.op("mul", inner, 2.0 * SQRT_2_OVER_PI)))
    return call.op("mul", call.op("mul", x, 0.5), call.op("add", call.op("erf", call.op("mul", x, SQRT_HALF)), 1.0))


@handles("silu", "SiLU")
def _silu(call: Call) -> Value:
    x = operand(call)
    return call.op("mul", x, call.op("sigmoid", x))


@handles("hardsigmoid", "Hardsigmoid")
def _hardsigmoid(call: Call) -> Value:
    return _hard_gate(call, operand(call))


@handles("hardswish", "Hardswish")
def _hardswish(call: Call) -> Value:
    x = operand(call)
    return call.op("mul", x, _hard_gate(call, x))


def _hard_gate(call: Call, x: Value) -> Value:
    bounded = call.op("minimum", call.op("maximum", call.op("add", x, 3.0), 0.0), 6.0)
    return call.op("mul", bounded, 1.0 / 6.0)


@handles("softplus", "Softplus")
def _softplus(call: Call) -> Value:
    beta, threshold = setting(call, 1, "beta", 1.0), setting(call, 2, "threshold", 20.0)
    x = operand(call)
    scaled = x if beta == 1 else call.op("mul", x, float(beta))
    soft = softplus(call, scaled)
    if beta != 1:
        soft = call.op("mul", soft, 1.0 / beta)
    return call.op("where", call.op("gt", scaled, float(threshold)), x, soft)


def softplus(call: Call, x: Value) -> Value:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which neither overflows nor cancels."""
    tail = call.op("log1p", call.op("exp", call.op("neg", call.op("abs", x))))
    return call.op("add", call.op("relu", x), tail)


@handles("logsigmoid", "log_sigmoid", "LogSigmoid")
def _logsigmoid(call: Call) -> Value:
    return call.op("neg", softplus(call, call.op("neg", operand(call))))


@handles("mish", "Mish")
def _mish(call: Call) -> Value:
    """x tanh(softplus(x)): with e = exp(x) the tanh is e (e + 2) / (e (e + 2) + 2), and 1 from x = 20 on."""
    x = operand(call)
    e = call.op("exp", call.op("minimum", x, 20.0))
    n = call.op("mul", e, call.op("add", e, 2.0))
    return call.op("mul", x, call.op("div", n, call.op("add", n, 2.0)))


@handles("leaky_relu", "LeakyReLU")
def _leaky_relu(call: Call) -> Value:
    x = operand(call)
    slope = setting(call, 1, "negative_slope", 0.01)
    return call.op("where", call.op("gt", x, 0.0), x, call.op("mul", x, slope))


@handles("elu", "ELU", "celu", "CELU", "selu", "SELU")
def _elu(call: Call) -> Value:
    name, x = call.name.lower(), operand(call)
    scale, alpha = 1.0, 1.0
    if name == "selu":
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    elif name == "celu":
        alpha = float(setting(call, 1, "alpha", 1.0))
    else:
        alpha = float(setting(call, 1, "alpha", 1.0))
        if call.module is None and (call.plain(2, "scale", 1.0) != 1.0 or call.plain(3, "input_scale", 1.0) != 1.0):
            raise NotHandled
    inner = call.op("div", x, alpha) if name == "celu" and alpha != 1.0 else x
    negative = call.op("mul", call.op("expm1", call.op("minimum", inner, 0.0)), alpha * scale)
    positive = call.op("mul", x, scale) if scale != 1.0 else x
    return call.op("where", call.op("gt", x, 0.0), positive, negative)


@handles("softsign", "Softsign")
def _softsign(call: Call) -> Value:
    x = operand(call)
    return call.op("div", x, call.op("add", call.op("abs", x), 1.0))


@handles("where")
def _where(call: Call) -> Value:
    if call.node.op == "call_method":  # x.where(condition, other)
        return call.op("where", call.value(1, "condition"), call.value(0), call.value(2, "other"))
    return call.op("where", call.value(0, "condition"), call.value(1, "input"), call.value(2, "other"))


@handles("masked_fill")
def _masked_fill(call: Call) -> Value:
    value = call.value(2, "value")
    if math.isnan(float(value.number if value.number is not None else 0)):
        raise NotHandled
    return call.op("where", call.value(1, "mask"), value, call.value(0))


@handles("addcmul")
def _addcmul(call: Call) -> Value:
    product = call.op("mul", call.value(1, "tensor1"), call.value(2, "tensor2"))
    scale = call.plain(3, "value", 1)
    return call.op("add", operand(call), product if scale == 1 else call.op("mul", product, scale))


@handles("lerp")
def _lerp(call: Call) -> Value:
    start = operand(call)
    return call.op("add", start, call.op("mul", call.value(2, "weight"), call.op("sub", call.value(1, "end"), start)))


@handles("dropout", "Dropout", "Identity")
def _dropout(call: Call) -> Value:
    """Dropout that drops nothing."""
    if call.name != "Identity":
        training = call.module.training if call.module is not None else call.plain(2, "training", True)
        if training and setting(call, 1, "p", 0.5) != 0:
            raise NotHandled
    return _same(call, operand(call))


@handles("to", "float", "half", "bfloat16", "type_as", "contiguous", "clone", "detach")
def _cast(call: Call) -> Value:
    """A change of type is nothing in a kernel that computes in fp32 and stores in the type asked for."""
    x = operand(call)
    if x.op == "tensor" and x.dtype == str(call.result.dtype).removeprefix("torch."):
        raise NotHandled  # nothing to compute: the host's, and free
    return _same(call, x)


def _same(call: Call, x: Value) -> Value:
    return call.make(Value(VIEW, (x,), x.shape, "float32" if x.dtype != "bool" else "bool", name=x.name))


@handles("view", "reshape", "flatten", "unsqueeze", "squeeze", "Flatten", "unflatten", "view_as", "reshape_as")
def _view(call: Call) -> Value:
    """A change of shape inside a chain of operations; of a tensor the host holds it is the host's."""
    x = operand(call)
    if x.op == "tensor":
        raise NotHandled
    shape = tuple(call.result.shape)
    factors: dict[int, str] = {}
    if call.node.op == "call_method" and call.node.target in ("view", "reshape"):
        given = call.node.args[1:]
        given = tuple(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else given
        for index, size in enumerate(given):
            if isinstance(size, int) and size > 1:
                factors[index] = str(size)
            elif isinstance(size, fx.Node) and size in call.lowered.value:
                factors[index] = call.lowered.value[size].text
    return call.view(x, shape, factors)
