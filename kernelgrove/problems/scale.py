"""Finds a smaller instance of a problem, one that Triton's interpreter can run in about a second a pass.

The file's integer sizes are shrunk together (see ``constants.py``), and a set of smaller ones is taken only if the
reference still constructs and runs with it: on the meta device, where full sizes cost nothing, then once for real.
Divisibility that the reference needs therefore survives, though nothing here knows of it. Imports torch.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ProblemError
from ..model import Problem
from .constants import Sites, find_sites, shrunk, smaller
from .outputs import flatten
from .parsing import parse
from .reference import Reference
from .sizes import replace, size_name, sized_source

#: The name of the size that shrinking makes.
SCALED = "scaled"

_POWERS = tuple(p / 100 for p in range(25, 95, 5))

#: Multiplies FLOPs of convolutions, which kernels do with a short inner loop: many more interpreted steps a FLOP.
_CONVOLUTION_WEIGHT = 12


@dataclass(frozen=True)
class Cost:
    """What one pass of the reference takes. ``elements`` counts inputs, outputs and parameters; ``rows`` is the
    largest number of rows in an input or output, and so of programs in a kernel with one a row."""

    elements: int
    rows: int
    flops: float

    def over(self, limit: Cost) -> float:
        """How many times over *limit* this is, in its worst respect; at most 1 fits."""
        return max(self.elements / limit.elements, self.rows / limit.rows, self.flops / limit.flops)


#: Measured with Triton 3.7's interpreter on one busy CPU core: a program of a row kernel takes about 1 to 2 ms, and a
#: tile of 32 x 32 x 32 of a matrix product about 3 ms.
LIMIT = Cost(elements=200_000, rows=600, flops=8e6)


@dataclass(frozen=True)
class Scaling:
    """A smaller instance: its source, what became of each size, and a note where it is not as small as wanted."""

    label: str
    source: str
    sizes: Mapping[int, int] = field(default_factory=dict)
    note: str = ""


def shrink(problem: Problem, size: str | None = None, limit: Cost = LIMIT, seconds: float = 6.0) -> tuple[str, str]:
    """``(label, source)`` of a smaller instance of *problem*; see ``scaling``."""
    found = scaling(problem, size, limit, seconds)
    return found.label, found.source


def scaling(problem: Problem, size: str | None = None, limit: Cost = LIMIT, seconds: float = 6.0) -> Scaling:
    """A smaller instance of *problem* at *size* (None: as timed) within *limit*, found within about *seconds*.

    Its label is ``scaled``, or the size's own name where the problem is small enough as it is or nothing smaller
    runs. Unequal sizes stay unequal, equal ones equal, small ones as they are. The same file gives the same instance,
    time permitting. A reference at fault is left for ``reference.validate`` to report: its file comes back unchanged.
    """
    source = sized_source(problem, size)
    label = size_name(problem, size)
    search = _Search(problem, source, limit, time.monotonic() + seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = search.smallest_change()
    if not new:
        return Scaling(label, source, note=search.note)
    sizes = {value: new.get(value, value) for value in search.sites.sizes}
    return Scaling(SCALED, search.source(new), sizes, search.note)


class _Search:
    """One search for smaller sizes; ``note`` says afterwards what is wanting in its result."""

    def __init__(self, problem: Problem, source: str, limit: Cost, deadline: float) -> None:
        self.problem = problem
        self.text = source
        self.limit = limit
        self.deadline = deadline
        self.sites: Sites = find_sites(parse(source))
        self.note = ""
        self.nearest: tuple[float, dict[int, int]] | None = None  # what runs, though too large, and how far over

    def source(self, new: Mapping[int, int]) -> str:
        return replace(self.text, self.sites.edits(new))

    def over(self, new: Mapping[int, int], device: str) -> float | None:
        """How far over the limit one pass with sizes *new* is, or None where the reference does not run with them."""
        cost = measure(self.source(new), self.problem.name, self.problem.mode, device)
        return None if cost is None else cost.over(self.limit)

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def smallest_change(self) -> dict[int, int]:
        """The largest sizes that fit the limit; empty where those of the file do, or nothing smaller runs."""
        if not self.sites.sizes:
            self.note = "no integer sizes were found to shrink"
            return {}
        new, complete = self.together("meta")
        if new and not complete:
            return new
        if not new and self.nearest:
            return self.one_by_one(*self.nearest)
        given = self.over({}, "meta")
        if given is not None and given <= 1:
            return {}
        if new:
            return new
        if given is not None:
            return self.one_by_one(given, {value: value for value in self.sites.sizes})
        # The reference reads values, or is at fault. Real runs tell; they begin small, and full size is never tried.
        new, complete = self.together("cpu")
        if not new:
            self.note = "the reference runs at no smaller sizes that were tried"
        return new

    def together(self, device: str) -> tuple[dict[int, int], bool]:
        """All sizes shrunk by one power, the largest that fit, or nearly do where none does.

        This keeps the instance's proportions. It begins with the smallest, which are the quickest to run, and stops
        at the first that is too large. Also tells whether it never met one that is: then the file's own may fit.
        """
        for exact in (True, False):
            fitting: list[tuple[float, dict[int, int]]] = []
            complete = True
            for new in self.ladder(exact):
                started = time.monotonic()
                over = self.over(new, device)
                if over is not None and over <= 2:
                    fitting.append((over, new))
                slow = device == "cpu" and time.monotonic() - started > 0.5
                if over is not None and over > 2 and device == "meta" and (not self.nearest or over < self.nearest[0]):
                    self.nearest = (over, new)
                if (over is not None and over > 2) or slow or self.late():
                    complete = False
                    break
            well = [new for over, new in fitting if over <= 1] or [new for _, new in sorted(fitting, key=_first)[:1]]
            for new in reversed(well):
                if device == "cpu" or self.over(new, "cpu") is not None:  # meta does not look at indices
                    return new, complete
        return {}, False

    def ladder(self, exact: bool) -> Iterator[dict[int, int]]:
        """Sizes to try, the smallest first, without repeats and without the file's own."""
        seen: list[dict[int, int]] = []
        for power, divisors in itertools.product(_POWERS, (False, True)):
            new = shrunk(self.sites.sizes, self.sites.kept, power, divisors, exact)
            if new not in seen and _changed(new):
                seen.append(new)
                yield new

    def one_by_one(self, best: float, start: Mapping[int, int]) -> dict[int, int]:
        """Sizes shrunk singly, then in pairs, from *start*, which runs, *best* times over; stops when that is enough.

        Singly and in pairs, relations between sizes that must hold are found by what runs.
        """
        new = dict(start)
        given = best
        for power in (0.7, 0.6, 0.5, 0.4, 0.3):
            for trial in itertools.chain(self.singly(new, power), self.paired(new)):
                if best <= 1 or self.late():
                    break
                if (over := self.over(trial, "meta")) is not None and over < best:
                    new.update(trial)
                    best = over
        # Far over the limit a real run may take minutes; what runs on meta is then taken on trust.
        if best <= 100 and self.over(new, "cpu") is None:
            new, best = dict(start), given
        if best > 2:
            self.note = f"{best:.3g} times what the interpreter runs in about a second: its sizes are tied to the model"
        return _changed(new)

    def singly(self, new: dict[int, int], power: float) -> Iterator[dict[int, int]]:
        """Trials that change one size of *new*, which may change between them."""
        for value in sorted(new, reverse=True):
            before = new[value]
            for candidate in smaller(before, [*self.sites.kept, *new.values()], power):
                if self.free(new, {value: candidate}):
                    yield {**new, value: candidate}
                if new[value] != before:
                    break

    def paired(self, new: dict[int, int]) -> Iterator[dict[int, int]]:
        """Trials that change two sizes of *new* by one factor, the largest factors first."""
        for first, second in itertools.combinations(sorted(new, reverse=True), 2):
            a, b = new[first], new[second]
            common = math.gcd(a, b)
            for unit in range(1, common):
                pair = {first: a // common * unit, second: b // common * unit}
                if min(pair.values()) > 3 and self.free(new, pair):
                    yield {**new, **pair}
                if new[first] != a or unit > 16:
                    break

    def free(self, new: Mapping[int, int], change: Mapping[int, int]) -> bool:
        """Whether the sizes stay unequal to each other, and to the kept constants, under *change*."""
        others = {at for value, at in new.items() if value not in change} | self.sites.kept
        return len(set(change.values())) == len(change) and not others & set(change.values())


def measure(source: str, name: str, mode: str, device: str) -> Cost | None:
    """What one pass of a reference takes, or None where it does not run on *device*."""
    try:
        reference = Reference(source, name, mode)
    except ProblemError:
        return None
    try:
        model = reference.make(0, device)
        inputs = reference.inputs(0, device)
        with FlopCounterMode(display=False) as counter:
            output = reference.run(model, inputs)
        flops = sum(
            count * (_CONVOLUTION_WEIGHT if "conv" in str(op) else 1)
            for op, count in counter.get_flop_counts().get("Global", {}).items()
        )
        outside = [leaf for _, leaf in flatten([inputs, output]) if isinstance(leaf, torch.Tensor)]
        return Cost(
            elements=sum(t.numel() for t in outside) + sum(p.numel() for p in model.parameters()),
            rows=max((t.numel() // max(1, t.shape[-1]) for t in outside if t.ndim > 1), default=1),
            flops=float(flops),
        )
    except ProblemError:
        return None
    finally:
        reference.close()


def _first(pair: tuple[float, dict[int, int]]) -> float:
    return pair[0]


def _changed(new: Mapping[int, int]) -> dict[int, int]:
    return {value: at for value, at in new.items() if at != value}
