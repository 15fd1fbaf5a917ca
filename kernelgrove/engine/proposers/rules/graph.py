"""The small language that recognition and code generation share: values over broadcast shapes.

A :class:`Value` is a pointwise operation, a reduction, a scan, a change of shape, or a leaf (a tensor or a number that
the host code holds). Composite operations of PyTorch (softmax, layer norm, gelu) are written out in these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

#: Operations on whole dimensions; all else with arguments is pointwise.
REDUCE = "reduce"
SCAN = "scan"
VIEW = "view"
#: Leaves.
TENSOR = "tensor"  # held by the host code under ``text``
NUMBER = "number"  # an int, float or bool written into the kernel
HOST_NUMBER = "host_number"  # a number that the host code computes (a size): passed to the kernel
COLUMN = "column"  # the position along the reduced dimension
COUNT = "count"  # how many elements a reduction covers, plus ``number``


#: What a kernel may load and store; computing is in fp32.
FLOATS = ("float32", "float16", "bfloat16")


@dataclass(eq=False)
class Value:
    """One value. ``dims`` are the reduced (or scanned) dimensions of ``args[0]``; ``kind`` says which reduction.

    ``shape`` is the full size's; ``name`` is what generated code calls it; ``factors`` gives, for a view, the host
    expression of an output dimension where it is known (others follow by division).
    """

    op: str
    args: tuple[Value, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    name: str = ""
    text: str = ""
    number: float | int | bool | None = None
    kind: str = ""
    dims: tuple[int, ...] = ()
    reverse: bool = False
    factors: dict[int, str] = field(default_factory=dict)
    fresh: bool = False  # a tensor that the host code made itself and that nobody else holds

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def is_number(self, value: float) -> bool:
        return self.op == NUMBER and not isinstance(self.number, bool) and self.number == value


def number(value: float | int | bool) -> Value:
    dtype = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "float32"
    return Value(NUMBER, number=value, dtype=dtype)


def broadcast(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that *shapes* broadcast to. Raises ValueError where they do not."""
    result: list[int] = []
    for shape in shapes:
        for back in range(1, len(shape) + 1):
            size = shape[-back]
            if back > len(result):
                result.insert(0, size)
            elif result[-back] == 1:
                result[-back] = size
            elif size not in (1, result[-back]):
                raise ValueError(f"{shape} does not broadcast")
    return tuple(result)


def walk(roots: Iterable[Value]) -> Iterator[Value]:
    """Every value under *roots*, arguments before users, each once."""
    seen: set[int] = set()
    stack: list[tuple[Value, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        value, done = stack.pop()
        if done:
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            stack.append((value, True))
            stack.extend((arg, False) for arg in reversed(value.args))
