"""The iteration space of a group of values: which dimensions they share, which are reduced, which are broadcast.

Every dimension of every tensor is a product of *atoms*. Operations make atoms equal (broadcasting), drop them
(reductions) or regroup them (changes of shape); what is left is an ordered list of atoms, each with an expression
by which host code knows its extent. Sizes themselves never enter: a program holds at every size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from .graph import COLUMN, COUNT, HOST_NUMBER, NUMBER, REDUCE, SCAN, VIEW, Value

#: One dimension as the atoms it is made of, outermost first; () for a dimension of size one.
Term = tuple[int, ...]


class NoSpace(Exception):
    """The values do not share one space; they belong in different kernels."""


@dataclass(frozen=True)
class Extent:
    """How host code knows an atom's extent: dimension ``dim`` of ``tensor``, or ``text``; divided by the extents of
    the atoms ``over``."""

    tensor: Value | None
    dim: int = 0
    text: str = ""
    over: Term = ()


#: The extent of an atom that no tensor of the segment shows.
UNKNOWN = Extent(None)


@dataclass(eq=False)
class Segment:
    """Values that one kernel computes. Atoms are numbered in memory order; ``columns`` is the range of those that
    reductions and scans run over, None where there are none. ``axes`` maps a value to its dimensions' atoms."""

    values: tuple[Value, ...]
    inputs: tuple[Value, ...]
    numbers: tuple[Value, ...]
    sizes: tuple[int, ...]
    extents: tuple[Extent, ...]
    columns: tuple[int, int] | None
    axes: dict[Value, tuple[Term, ...]]
    outputs: tuple[Value, ...] = ()

    def atoms(self, value: Value) -> Term:
        """The atoms *value* varies over, in order."""
        return tuple(atom for term in self.axes.get(value, ()) for atom in term)

    @property
    def outer(self) -> Term:
        return tuple(range(self.columns[0])) if self.columns else ()

    @property
    def reduced(self) -> Term:
        return tuple(range(*self.columns)) if self.columns else ()

    @property
    def inner(self) -> Term:
        return tuple(range(self.columns[1], len(self.sizes))) if self.columns else ()

    @property
    def row_count(self) -> int:
        return prod(self.sizes[a] for a in (*self.outer, *self.inner))

    @property
    def column_count(self) -> int:
        return prod(self.sizes[a] for a in self.reduced)

    @property
    def numel(self) -> int:
        return prod(self.sizes)

    @property
    def scans(self) -> bool:
        return any(v.op == SCAN for v in self.values)

    @property
    def reduces(self) -> bool:
        return any(v.op == REDUCE for v in self.values)

    def varies_by_column(self, value: Value) -> bool:
        return any(atom in self.reduced for atom in self.atoms(value))

    def full_outputs(self) -> tuple[Value, ...]:
        """Outputs with an element for every row and column."""
        return tuple(v for v in self.outputs if self.columns is None or self.varies_by_column(v))

    def signature(self) -> tuple[object, ...]:
        """All that a program depends on except sizes; equal at two sizes means one program serves both."""
        index = {v: i for i, v in enumerate((*self.inputs, *self.numbers, *self.values))}

        def argument(a: Value) -> tuple[object, ...]:
            return (index.get(a, -1), a.op, a.number if a.op == NUMBER else 0)

        rows = [(v.op, v.kind, v.reverse, v.dtype, tuple(argument(a) for a in v.args)) for v in self.values]
        shapes = [self.axes.get(v) for v in index]
        outputs = [index[v] for v in self.outputs]
        extents = tuple((index.get(e.tensor, -1) if e.tensor else -1, e.dim, e.text, e.over) for e in self.extents)
        return (tuple(rows), tuple(shapes), extents, self.columns, tuple(outputs))


class _Atoms:
    """Unification of dimensions: an atom may turn out to be another atom, or a product of several."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._bound: dict[int, Term] = {}

    def fresh(self, size: int) -> Term:
        if size == 1:
            return ()
        self.sizes.append(size)
        return (len(self.sizes) - 1,)

    def resolve(self, term: Term) -> Term:
        result: list[int] = []
        for atom in term:
            result.extend(self.resolve(self._bound[atom]) if atom in self._bound else (atom,))
        return tuple(result)

    def unify(self, a: Term, b: Term) -> None:
        """Make two terms the same, splitting atoms where their factors line up. Raises NoSpace where not."""
        left, right = list(self.resolve(a)), list(self.resolve(b))
        while left and right:
            x, y = left[0], right[0]
            if x == y:
                del left[0], right[0]
            elif self.sizes[x] <= self.sizes[y]:
                self._bind(y, left)
                del right[0]
            else:
                self._bind(x, right)
                del left[0]
        if left or right:
            raise NoSpace

    def _bind(self, atom: int, parts: list[int]) -> None:
        taken = 0
        size = 1
        while size < self.sizes[atom] and taken < len(parts):
            size *= self.sizes[parts[taken]]
            taken += 1
        if size != self.sizes[atom] or atom in parts[:taken]:
            raise NoSpace
        self._bound[atom] = tuple(parts[:taken])
        del parts[:taken]


def space(values: Sequence[Value]) -> Segment:
    """The segment that computes *values* (arguments before users), outputs left open. Raises NoSpace."""
    atoms = _Atoms()
    axes: dict[Value, list[Term]] = {}
    own = set(values)
    inputs: list[Value] = []
    numbers: list[Value] = []
    runs: list[Term] = []

    def of(value: Value) -> list[Term]:
        if value not in axes:
            axes[value] = [atoms.fresh(size) for size in value.shape]
            if value.op == HOST_NUMBER:
                numbers.append(value)
            elif value.op not in (NUMBER, COLUMN, COUNT):
                inputs.append(value)
        return axes[value]

    for value in values:
        operands = [of(arg) for arg in value.args]
        if value.op in (REDUCE, SCAN):
            runs.append(tuple(atom for d in value.dims for atom in operands[0][d]))
            axes[value] = _after(value, operands[0])
        elif value.op == VIEW:
            if value.shape == value.args[0].shape:
                axes[value] = operands[0]
            else:
                axes[value] = [atoms.fresh(size) for size in value.shape]
                atoms.unify(_flat(operands[0]), _flat(axes[value]))
        else:
            axes[value] = _broadcast(atoms, len(value.shape), operands)
    runs += [_flat(terms) for v, terms in axes.items() if v.op == COLUMN]
    for run in runs[1:]:
        atoms.unify(runs[0], run)  # reductions of different tensors side by side
    resolved = {v: [atoms.resolve(t) for t in terms] for v, terms in axes.items()}
    order = _order(list(resolved.values()))
    position = {atom: i for i, atom in enumerate(order)}
    final = {v: tuple(tuple(position[a] for a in t) for t in terms) for v, terms in resolved.items()}
    columns = _columns([{position[a] for a in atoms.resolve(run)} for run in runs])
    sizes = tuple(atoms.sizes[a] for a in order)
    extents = _extents(sizes, final, inputs, [v for v in values if v.op == VIEW])
    if columns is None and any(a.op == COUNT for v in values for a in v.args):
        raise NoSpace
    return Segment(tuple(v for v in values if v in own), tuple(inputs), tuple(numbers), sizes, extents, columns, final)


def _flat(terms: Iterable[Term]) -> Term:
    return tuple(atom for term in terms for atom in term)


def _after(value: Value, terms: list[Term]) -> list[Term]:
    """The dimensions left by a reduction (all of them by a scan)."""
    if value.op == SCAN:
        return terms
    if len(value.shape) == len(terms):
        return [() if i in value.dims else t for i, t in enumerate(terms)]
    return [t for i, t in enumerate(terms) if i not in value.dims]


def _broadcast(atoms: _Atoms, rank: int, operands: list[list[Term]]) -> list[Term]:
    result: list[Term] = []
    for back in range(rank, 0, -1):
        terms = [terms[-back] for terms in operands if len(terms) >= back and terms[-back]]
        for term in terms[1:]:
            atoms.unify(terms[0], term)
        result.append(atoms.resolve(terms[0]) if terms else ())
    return result


def _order(shapes: list[list[Term]]) -> Term:
    """The atoms in memory order: that of a value that varies over all of them. Raises NoSpace without one."""
    flats = [_flat(terms) for terms in shapes]
    every = {atom for flat in flats for atom in flat}
    order = next((flat for flat in flats if set(flat) == every and len(flat) == len(every)), None)
    if order is None or not order:
        raise NoSpace
    position = {atom: i for i, atom in enumerate(order)}
    for flat in flats:
        places = [position[atom] for atom in flat]
        if any(a >= b for a, b in pairwise(places)):
            raise NoSpace
    return order


def _columns(runs: list[set[int]]) -> tuple[int, int] | None:
    if not runs:
        return None
    first = runs[0]
    if any(run != first for run in runs) or not first or max(first) - min(first) + 1 != len(first):
        raise NoSpace
    return min(first), max(first) + 1


def _extents(
    sizes: tuple[int, ...], axes: dict[Value, tuple[Term, ...]], inputs: list[Value], views: list[Value]
) -> tuple[Extent, ...]:
    """How host code computes each atom's extent; UNKNOWN where no tensor shows it (yet)."""
    known: dict[int, Extent] = {}
    by_size = sorted(inputs, key=lambda v: -len(_flat(axes[v])))  # sizes are read off the largest tensor
    dimensions = [(v, i, term) for v in by_size for i, term in enumerate(axes[v]) if term]
    for value, index, term in dimensions:
        if len(term) == 1:
            known.setdefault(term[0], Extent(value, index))
    for view in views:
        for index, text in view.factors.items():
            term = axes[view][index]
            if len(term) == 1:
                known.setdefault(term[0], Extent(None, text=text))
    for value, index, term in dimensions:
        unknown = [atom for atom in term if atom not in known]
        if len(unknown) == 1 and len(term) > 1:
            known[unknown[0]] = Extent(value, index, over=tuple(a for a in term if a != unknown[0]))
    return tuple(known.get(atom, UNKNOWN) for atom in range(len(sizes)))
