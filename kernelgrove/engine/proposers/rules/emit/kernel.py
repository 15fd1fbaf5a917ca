"""What every kernel is made of: names, arguments, extents, and the offset of an element in each tensor."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field

from ..graph import Value
from ..space import Segment, Term

_TAKEN = {
    "tl", "triton", "torch", "row", "rows", "cols", "columns", "inside", "offsets", "count", "start", "range", "self",
    "exp", "tanh", "log1p", "expm1", "part", "parts", "first", "last", "chunk", "block", "tile", "step", "lane", "min",
    "max", "sum", "abs", "float", "int", "len", "pow", "float32", "programs",
}  # fmt: skip


class Names:
    """Python identifiers, each given once."""

    def __init__(self) -> None:
        self._used = set(_TAKEN)
        self._of: dict[Value, str] = {}

    def fresh(self, wanted: str) -> str:
        stem = re.sub(r"\W", "_", wanted) or "t"
        stem = f"t{stem}" if stem[0].isdigit() or keyword.iskeyword(stem) else stem
        name, count = stem, 1
        while name in self._used:
            name, count = f"{stem}_{count}", count + 1
        self._used.add(name)
        return name

    def of(self, value: Value) -> str:
        if value not in self._of:
            self._of[value] = self.fresh(value.name or value.op)
        return self._of[value]


@dataclass
class Emitted:
    """A fused operation: kernels and the host function that launches them."""

    kernels: list[str]
    host: str
    helpers: set[str] = field(default_factory=set)


@dataclass
class Frame:
    """The names shared by a segment's kernels and its host function.

    ``sizes`` maps kernel size arguments to their host expressions, filled as index expressions ask for them.
    """

    segment: Segment
    constants: bool = False
    names: Names = field(default_factory=Names)
    sizes: dict[str, str] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for value in (*self.segment.inputs, *self.segment.numbers):
            self.names.of(value)
        self.texts: dict[str, str] = {}  # host numbers that extents name, as parameters of the host function
        for extent in self.segment.extents:
            if extent.text and not extent.text.isdigit() and extent.text not in self.texts:
                self.texts[extent.text] = self.names.fresh(extent.text.rsplit(".", 1)[-1])
        for value in self.segment.outputs:
            self.names.of(value)

    # -------------------------------------------------------------------------------------------- extents

    def extent(self, atom: int) -> str:
        """The host expression of an atom's extent."""
        extent = self.segment.extents[atom]
        if extent.tensor is not None:
            text = f"{self.names.of(extent.tensor)}.shape[{extent.dim}]"
        else:
            text = self.texts.get(extent.text, extent.text)
        for over in extent.over:
            inner = self.extent(over)
            text += f" // ({inner})" if " " in inner else f" // {inner}"
        return text

    def product(self, atoms: Term) -> str:
        """The host expression of a product of extents."""
        texts = [self.extent(atom) for atom in atoms]
        return " * ".join(f"({t})" if " // " in t and len(texts) > 1 else t for t in texts) or "1"

    def size(self, atoms: Term) -> str:
        """The kernel argument that holds the product of *atoms*' extents."""
        if self.segment.columns and atoms == self.segment.reduced:
            return "columns"
        name = "size_" + "_".join(str(atom) for atom in atoms)
        self.sizes[name] = self.product(atoms)
        return name

    def offset(self, value: Value, part: Term, linear: str) -> str:
        """What index *linear* over the atoms *part* adds to the offset of *value*'s element; "" for nothing."""
        atoms = self.segment.atoms(value)
        terms: list[str] = []
        start = 0
        while start < len(part):
            if part[start] not in atoms:
                start += 1
                continue
            stop = start + 1
            while stop < len(part) and _next(atoms, part[stop - 1]) == part[stop]:
                stop += 1
            run, tail = part[start:stop], part[stop:]
            stride = atoms[atoms.index(run[-1]) + 1 :]
            text = linear
            if tail:
                text = f"{text} // {self.size(tail)}"
            if start:
                text = f"({text}) % {self.size(run)}" if tail else f"{text} % {self.size(run)}"
            if stride:
                text = f"({text}) * {self.size(stride)}" if " " in text else f"{text} * {self.size(stride)}"
            terms.append(text)
            start = stop
        return " + ".join(f"({t})" if "%" in t or "//" in t else t for t in terms) if len(terms) > 1 else "".join(terms)

    # -------------------------------------------------------------------------------------------- host code

    def parameters(self) -> list[str]:
        """Parameters of the host function: tensors, then numbers, then sizes that only the module knows."""
        values = [*self.segment.inputs, *self.segment.numbers]
        return [self.names.of(v) for v in values] + list(self.texts.values())

    def shape(self, value: Value) -> str:
        """An output's shape as a tuple expression."""
        dims = [self.product(term) if term else "1" for term in self.segment.axes[value]]
        return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"

    def contiguous(self) -> list[str]:
        names = [self.names.of(v) for v in self.segment.inputs if v.numel > 1]
        return [f"{name} = {name}.contiguous()" for name in names]

    def allocate(self, reuse: Value | None) -> list[str]:
        """Lines that make the outputs: beside an input of the same shape and type, like it; else by shape."""
        lines = []
        for output in self.segment.outputs:
            name = self.names.of(output)
            twin = next((v for v in self.segment.inputs if self.same_layout(v, output)), None)
            anchor = self.names.of(self.segment.inputs[0])
            if reuse is not None and self.same_layout(reuse, output):
                lines.append(f"{name} = {self.names.of(reuse)}  # its own temporary, read by nobody after this")
            elif twin is not None:
                lines.append(f"{name} = torch.empty_like({self.names.of(twin)})")
            else:
                dtype = f"torch.{output.dtype}"
                lines.append(f"{name} = torch.empty({self.shape(output)}, device={anchor}.device, dtype={dtype})")
        return lines

    def same_layout(self, a: Value, b: Value) -> bool:
        return self.segment.axes[a] == self.segment.axes[b] and a.dtype == b.dtype

    def size_lines(self) -> list[str]:
        return [f"{name} = {text}" for name, text in self.sizes.items()]

    def size_parameters(self) -> list[str]:
        """Size arguments of a kernel, compile-time constants where the plan says so."""
        kind = ": tl.constexpr" if self.constants else ""
        return [f"{name}{kind}" for name in self.sizes]


def _next(atoms: Term, atom: int) -> int | None:
    """The atom after *atom* among *atoms*, None at the end or where *atom* is not there."""
    if atom not in atoms:
        return None
    at = atoms.index(atom) + 1
    return atoms[at] if at < len(atoms) else None


def wrapped(head: str, items: list[str], tail: str, indent: str = "    ") -> str:
    """``head(items)tail``, one item a line where it would pass 110 columns."""
    line = f"{head}({', '.join(items)}){tail}"
    if len(line) <= 110:
        return line
    body = "".join(f"{indent}    {item},\n" for item in items)
    return f"{head}(\n{body}{indent}){tail}"
