"""The integers of a problem file that may be sizes, found in its syntax tree, and smaller ones to put in their place.

Sizes are where KernelBench files write them: constants assigned at the top of the file (alone, or in tuples, lists
and dicts) and literals in ``get_inputs`` and ``get_init_inputs``. Literals inside ``Model`` are the model's own.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

#: Integers up to this one are kept: kernel sizes, strides, flags, numbers of groups, dimensions' indices.
SMALL = 8

_SETTINGS = frozenset({"SIZES", "PRECISION", "MODE"})
_KEPT_NAMES = re.compile(r"kernel|stride|pad|dilat|pool|seed", re.IGNORECASE)
_FUNCTIONS = frozenset({"get_inputs", "get_init_inputs"})
_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


@dataclass(frozen=True)
class Sites:
    """Where the sizes are: ``sizes`` maps each value to the expressions that write it, ``kept`` holds the rest."""

    sizes: Mapping[int, tuple[ast.expr, ...]]
    kept: frozenset[int]

    def edits(self, new: Mapping[int, int]) -> list[tuple[ast.expr, str]]:
        """Every expression to change, with its new text. Values that *new* leaves out or as they are stay."""
        return [
            (node, str(new[value]))
            for value, nodes in self.sizes.items()
            if new.get(value, value) != value
            for node in nodes
        ]


def find_sites(tree: ast.Module) -> Sites:
    """The integer sizes of a problem file. Equal values are one size, wherever they are written."""
    sizes: dict[int, list[ast.expr]] = {}
    kept: set[int] = set()
    for node, value, name in _integers(tree):
        if value > SMALL and not (name and _KEPT_NAMES.search(name)):
            sizes.setdefault(value, []).append(node)
        elif value > 1:
            kept.add(value)
    return Sites({value: tuple(nodes) for value, nodes in sorted(sizes.items())}, frozenset(kept))


def shrunk(
    values: Iterable[int], kept: Iterable[int], power: float, divisors: bool, exact: bool = True
) -> dict[int, int]:
    """About ``value ** power`` for each of *values*: in the same order, unequal, unlike any of *kept*, none larger.

    A power of two stays one if *exact*, since a kernel may rightly count on it; any other size gets one that is no
    multiple of eight, so that a missing bounds check shows. With *divisors*, a size that other sizes divide gets a
    multiple of what they become (heads and width, groups and channels), as far as that leaves it small.
    """
    taken = set(kept)
    result: dict[int, int] = {}
    last = 0
    for value in sorted(values):
        doubles = exact and value & (value - 1) == 0
        target = 2 ** max(2, round(math.log2(value) * power)) if doubles else max(4, round(value**power))
        step = 1
        if divisors and not doubles:
            for smaller in [*kept, *result]:
                new = result.get(smaller, smaller)
                if smaller > 1 and value % smaller == 0 and math.lcm(step, new) <= max(2 * target, 2 * new):
                    step = math.lcm(step, new)
            target = max(1, round(target / step)) * step
        while target < value and (
            target in taken or target <= last or (step == 1 and not doubles and target % SMALL == 0)
        ):
            target = target * 2 if doubles else target + step
        result[value] = last = min(target, value)
        taken.add(result[value])
    return result


def smaller(value: int, others: Iterable[int], power: float) -> Iterator[int]:
    """Sizes to try for one *value* when shrinking all at once breaks the reference, the likeliest to work last.

    First about ``value ** power``; then multiples of what divides it, among *others* and the powers of two; then
    simple fractions of it. All are larger than 1 and smaller than *value*; some may come twice.
    """
    yield from shrunk([value], (), power, divisors=False).values()
    target = max(4.0, value**power)
    divisors = {other for other in others if 1 < other < value and value % other == 0}
    for divisor in sorted(divisors | {2, 4, 8, 16, 32, 64}):
        for factor in (math.ceil(target / divisor), math.ceil(target / divisor) + 1):
            if 1 < divisor * factor < value:
                yield divisor * factor
    for fraction in (8, 4, 3, 2):
        if value % fraction == 0 and value // fraction > 1:
            yield value // fraction


def _integers(tree: ast.Module) -> Iterator[tuple[ast.expr, int, str]]:
    """Every candidate expression with its value and the name that it is given, if any."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            if not _SETTINGS & set(_targets(statement)):
                yield from _inside(statement, "")
        elif isinstance(statement, ast.FunctionDef) and statement.name in _FUNCTIONS:
            for inner in statement.body:
                yield from _inside(inner, "")


def _inside(node: ast.AST, name: str) -> Iterator[tuple[ast.expr, int, str]]:
    if isinstance(node, ast.expr) and (value := _folded(node)) is not None:
        yield node, value, name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = _targets(node)
        if node.value is not None:
            parallel = len(targets) > 1 and isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(targets)
            if parallel and isinstance(node.value, ast.Tuple):
                for target, item in zip(targets, node.value.elts, strict=True):
                    yield from _inside(item, target)
            else:
                yield from _inside(node.value, targets[0] if targets else "")
    elif isinstance(node, ast.keyword):
        yield from _inside(node.value, node.arg or name)
    elif isinstance(node, ast.Dict):
        for key, item in zip(node.keys, node.values, strict=True):
            label = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else name
            yield from _inside(item, label)
    elif isinstance(node, ast.Subscript):
        yield from _inside(node.value, name)
    elif not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _inside(child, name)


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]


def _folded(node: ast.expr) -> int | None:
    """The value of an expression made of integer literals alone (``16 * 1024``, ``2 ** 14``), else None."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _folded(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp) and (apply := _ARITHMETIC.get(type(node.op))):
        left, right = _folded(node.left), _folded(node.right)
        if left is None or right is None or (isinstance(node.op, ast.Pow | ast.LShift) and not 0 <= right <= 64):
            return None
        if isinstance(node.op, ast.FloorDiv) and right == 0:
            return None
        return apply(left, right)
    return None
