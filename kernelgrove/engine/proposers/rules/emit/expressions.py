"""How each pointwise operation is written in Triton, and the few helpers that the language lacks.

Arguments are names or literals. A helper is there where the obvious formula loses digits that a judge would miss:
``tanh`` and ``expm1`` near zero, ``exp`` of large arguments (the hardware's ``ex2.approx`` sees a rounded x log2(e)).
"""

from __future__ import annotations

import math

from ..graph import Value

TEMPLATES = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "exp": "tl.exp({0})",
    "exact_exp": "exp({0})",
    "exp2": "tl.exp2({0})",
    "log": "tl.log({0})",
    "log2": "tl.log2({0})",
    "log1p": "log1p({0})",
    "expm1": "expm1({0})",
    "sqrt": "tl.sqrt({0})",
    "rsqrt": "tl.rsqrt({0})",
    "reciprocal": "1.0 / {0}",
    "square": "{0} * {0}",
    "sigmoid": "tl.sigmoid({0})",
    "tanh": "tanh({0})",
    "relu": "tl.maximum({0}, 0.0)",
    "maximum": "tl.maximum({0}, {1})",
    "minimum": "tl.minimum({0}, {1})",
    "erf": "tl.erf({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "where": "tl.where({0}, {1}, {2})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "{0} == 0",
}

#: Helper functions by name, each with those it calls.
HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exp": (
        '''@triton.jit
def exp(x):
    """exp(x) to the last digit: x = n log(2) + r with n whole, log(2) in two parts, then 2**n exp(r)."""
    x = tl.minimum(tl.maximum(x, -150.0), 130.0)
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    r = x - n * 0.693359375 + n * 2.12194440e-4
    return tl.exp2(n) * tl.exp(r)
''',
        (),
    ),
    "log1p": (
        '''@triton.jit
def log1p(x):
    """log(1 + x) without losing a small x to the sum."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))
''',
        (),
    ),
    "tanh": (
        '''@triton.jit
def tanh(x):
    """tanh(x) as 1 - 2 / (1 + exp(2|x|)) with the sign of x; near zero, where that cancels, an odd polynomial."""
    z = x * x
    p = ((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1
    near = (p * z - 3.33332819422e-1) * z * x + x
    far = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * tl.abs(x)))
    return tl.where(tl.abs(x) < 0.625, near, tl.where(x < 0.0, -far, far))
''',
        (),
    ),
    "expm1": (
        '''@triton.jit
def expm1(x):
    """exp(x) - 1, by tanh(x / 2) where the difference would cancel."""
    t = tanh(0.5 * x)
    return tl.where(tl.abs(x) < 0.5, 2.0 * t / (1.0 - tl.where(tl.abs(x) < 0.5, t, 0.0)), tl.exp(x) - 1.0)
''',
        ("tanh",),
    ),
}

#: Operations written with a helper.
USES = {"exact_exp": "exp", "log1p": "log1p", "tanh": "tanh", "expm1": "expm1"}


def literal(number: float | int | bool | None) -> str:
    """A number as Triton source."""
    if isinstance(number, int):
        return repr(number) if number is True or number is False or number >= 0 else f"({number})"
    value = float(number or 0.0)
    if math.isinf(value):
        return 'float("inf")' if value > 0 else '(-float("inf"))'
    return repr(value) if value >= 0 else f"({value!r})"


def exact(value: Value) -> str:
    """The operation to write for *value*: the exact exponential unless its argument is bounded by a maximum."""
    if value.op == "exp" and not _non_positive(value.args[0]):
        return "exact_exp"
    return value.op


def _non_positive(value: Value) -> bool:
    """Whether *value* is x - max(x) or -|x|: exp of it is at most 1, and approximate digits do not show."""
    if value.op == "neg":
        return value.args[0].op == "abs"
    return value.op == "sub" and value.args[1].op == "reduce" and value.args[1].kind == "max"


def helpers(names: set[str]) -> list[str]:
    """The source of the helpers *names*, those they call first."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for needed in HELPERS[name][1]:
            add(needed)
        if name not in ordered:
            ordered.append(name)

    for name in sorted(names):
        add(name)
    return [HELPERS[name][0] for name in ordered]
