"""The statements inside a kernel: loads, operations and stores, each value computed once in the scope it needs.

A value that does not vary along the row is computed in the *program* scope, any other in the *tile* scope, which is
opened anew for every pass over the row.
"""

from __future__ import annotations

from ..graph import COLUMN, COUNT, HOST_NUMBER, NUMBER, REDUCE, SCAN, VIEW, Value
from ..space import Segment
from .expressions import TEMPLATES, USES, exact, literal
from .kernel import Frame


class Body:
    """Lines of one kernel. ``row`` and ``columns`` name the row index and the column indices; ``flat`` a single
    index over everything. With ``wide`` a tile has two dimensions, rows and columns."""

    def __init__(self, frame: Frame, *, flat: bool = False, wide: bool = False, indent: int = 1) -> None:
        self.frame = frame
        self.segment = frame.segment
        self.flat = flat
        self.wide = wide
        self.indent = indent
        self.lines: list[str] = []
        self.program: dict[Value, str] = {}
        self.tile: dict[Value, str] = {}
        self.last_pass = True  # streamed data will not be read again
        self.hints = False
        self.carries: dict[Value, str] = {}  # a scan's running total, where the row is walked in tiles
        self.inverse: dict[Value, str] = {}  # reciprocals of per-row divisors
        self.reciprocal = False
        self.column_mask = "cols < columns"

    def add(self, text: str) -> None:
        self.lines.append("    " * self.indent + text if text else "")

    # --------------------------------------------------------------------------------------------- scopes

    def in_tile(self, value: Value) -> bool:
        return not self.flat and self.segment.varies_by_column(value)

    def known(self, value: Value) -> bool:
        return value in self.program or value in self.tile

    def needed(self, roots: list[Value]) -> list[Value]:
        """Values under *roots* that have no name yet, arguments first."""
        seen: set[Value] = set()
        order: list[Value] = []
        inputs = set(self.segment.inputs)

        def visit(value: Value) -> None:
            if value in seen or self.known(value):
                return
            seen.add(value)
            if value not in inputs:
                for arg in value.args:
                    visit(arg)
            order.append(value)

        for root in roots:
            visit(root)
        return order

    def prepare(self, roots: list[Value]) -> None:
        """Compute what *roots* need and does not vary along the row, ahead of a loop."""
        for value in self.needed(roots):
            if not self.in_tile(value):
                self.get(value)
            elif self._by_inverse(value):
                self._inverse(value.args[1])

    def _by_inverse(self, value: Value) -> bool:
        """Whether *value* is a division by something of the row, to be done as a product with its reciprocal."""
        return self.reciprocal and value.op == "div" and self.in_tile(value) and not self.in_tile(value.args[1])

    # --------------------------------------------------------------------------------------------- values

    def get(self, value: Value) -> str:
        """The name (or literal) of *value*, computing it and what it needs where that is not done yet."""
        if value.op == NUMBER:
            return literal(value.number)
        if value.op == COUNT:
            return f"(columns - {-int(value.number)})" if value.number else "columns"
        if value.op == COLUMN:
            return "cols"
        if value.op == HOST_NUMBER:
            return self.frame.names.of(value)
        for scope in (self.program, self.tile):
            if value in scope:
                return scope[value]
        for arg in self.needed([value])[:-1]:
            if arg.op not in (NUMBER, HOST_NUMBER, COUNT, COLUMN):
                self.get(arg)
        if value.op == VIEW and value not in self.segment.inputs:
            name = self.get(value.args[0])
            self.define(value, name)
            return name
        text = self._text(value)
        name = self._name(value)
        if text != name:
            self.add(f"{name} = {text}")
        self.define(value, name)
        return name

    def define(self, value: Value, name: str) -> None:
        (self.tile if self.in_tile(value) or self.flat else self.program)[value] = name

    def _name(self, value: Value) -> str:
        names = self.frame.names
        if value in self.segment.inputs or value in self.segment.outputs:
            return f"{names.of(value)}_value" if value in self.segment.inputs else f"{names.of(value)}_result"
        return names.of(value)

    def _text(self, value: Value) -> str:
        if value in self.segment.inputs:
            return self._load(value)
        if value.op == SCAN:
            return self._scan(value)
        if value.op == REDUCE:
            return self.reduced(value)
        if self._by_inverse(value):
            return f"{self.get(value.args[0])} * {self._inverse(value.args[1])}"
        op = exact(value)
        if op in USES:
            self.frame.helpers.add(USES[op])
        return TEMPLATES[op].format(*(self.get(arg) for arg in value.args))

    def _inverse(self, divisor: Value) -> str:
        if divisor.op in (NUMBER, HOST_NUMBER, COUNT):
            return f"(1.0 / {self.get(divisor)})"
        if divisor not in self.inverse:
            text = self.get(divisor)
            name = self.frame.names.fresh(f"inverse_{text}")
            self.add(f"{name} = 1.0 / {text}")
            self.inverse[divisor] = name
        return self.inverse[divisor]

    # ----------------------------------------------------------------------------------- loads and stores

    def pointer(self, value: Value, name: str) -> str:
        segment = self.segment
        if self.flat:
            terms = [self.frame.offset(value, tuple(range(len(segment.sizes))), "offsets")]
        else:
            terms = [
                self.frame.offset(value, (*segment.outer, *segment.inner), "row"),
                self.frame.offset(value, segment.reduced, "cols"),
            ]
        return " + ".join([f"{name}_ptr", *(f"({t})" if "%" in t or "//" in t else t for t in terms if t)])

    def mask(self, value: Value) -> str:
        """The mask of a load or store of *value*, "" where every lane is inside."""
        if self.flat:
            return "inside" if self.segment.atoms(value) else ""
        by_row = any(atom not in self.segment.reduced for atom in self.segment.atoms(value))
        if self.in_tile(value):
            return "inside" if by_row or not self.wide else self.column_mask
        return "row < rows" if self.wide and by_row else ""

    def _load(self, value: Value) -> str:
        mask = self.mask(value)
        parts = [self.pointer(value, self.frame.names.of(value))]
        if mask:
            parts += [f"mask={mask}", "other=0.0" if value.dtype not in ("int64", "bool") else "other=0"]
        if self.hints and mask:
            streamed = self.last_pass and set(self.segment.atoms(value)) == set(range(len(self.segment.sizes)))
            parts.append(f'eviction_policy="{"evict_first" if streamed else "evict_last"}"')
        cast = ".to(tl.float32)" if value.dtype in ("float16", "bfloat16") else ""
        return f"tl.load({', '.join(parts)}){cast}"

    def store(self, value: Value) -> None:
        text = self.get(value)
        name = self.frame.names.of(value)
        mask = self.mask(value)
        parts = [self.pointer(value, name), text]
        if mask:
            parts.append(f"mask={mask}")
        if self.hints and mask == "inside":
            parts.append('eviction_policy="evict_first"')
        self.add(f"tl.store({', '.join(parts)})")

    # ------------------------------------------------------------------------------- reductions and scans

    @property
    def axis(self) -> str:
        return "axis=1, keep_dims=True" if self.wide else "axis=0"

    def filled(self, value: Value, fill: str) -> str:
        """*value* with lanes past the end of the row set to *fill*."""
        text = self.get(value)
        return text if fill == "0.0" and zero_outside(value, self.segment) else f"tl.where(inside, {text}, {fill})"

    def reduced(self, value: Value) -> str:
        """A reduction of a whole row that is at hand."""
        arg = value.args[0]
        if value.kind in ("sum", "mean"):
            text = f"tl.sum({self.filled(arg, '0.0')}, {self.axis})"
            return text if value.kind == "sum" else f"{text} / columns"
        if value.kind in ("max", "min"):
            fill = '-float("inf")' if value.kind == "max" else 'float("inf")'
            return f"tl.{value.kind}({self.filled(arg, fill)}, {self.axis})"
        fill = '-float("inf")' if value.kind == "argmax" else 'float("inf")'
        return f"tl.{value.kind}({self.filled(arg, fill)}, {self.axis})"

    def _scan(self, value: Value) -> str:
        arg = value.args[0]
        fill = "0.0" if value.kind == "sum" else "1.0"
        axis = "axis=1" if self.wide else "axis=0"
        carry = self.carries.get(value)
        if carry is None:
            return f"tl.cum{value.kind}({self.get(arg)}, {axis})"
        operator = "+" if value.kind == "sum" else "*"
        text = f"{carry} {operator} tl.cum{value.kind}({self.filled(arg, fill)}, {axis})"
        name = self._name(value)
        self.add(f"{name} = {text}")
        ends = f"tl.where(cols == start + BLOCK - 1, {name}, 0.0)"
        self.add(f"{carry} = tl.sum({ends}, {self.axis})")
        return name


def zero_outside(value: Value, segment: Segment) -> bool:
    """Whether lanes past the end of the row are zero without asking: loads fill with zero, and some operations
    keep it."""
    if value in segment.inputs:
        return segment.varies_by_column(value)
    if value.op in (VIEW, "square", "neg", "abs", "relu", "sqrt"):
        return zero_outside(value.args[0], segment)
    if value.op == "mul":
        one, other = value.args
        return (other.op == NUMBER and zero_outside(one, segment)) or (
            one.op == NUMBER and zero_outside(other, segment)
        )
    return False
