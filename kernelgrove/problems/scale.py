"""Finds a smaller instance of a problem, one that Triton's interpreter can run in about a second a pass.

The file's integer sizes are shrunk together (see ``constants.py``), and a set of smaller ones is taken only if the
reference still constructs and runs with it: on the meta device, where full sizes cost nothing, then once for real.
Divisibility that the reference needs therefore survives, though nothing here knows of it. Imports torch.
"""

from __future__ import annotations

import ast
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
from .reference import Reference
from .sizes import replace, size_name, sized_source

#: The name of the size that shrinking makes.
SCALED = "scaled"

_POWERS = tuple(p / 100 for p in range(90, 25, -5))

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
        given = search.cost({}, "meta")
        if given is not None and given.over(limit) <= 1:
            return Scaling(label, source)
        if not search.sites.sizes:
            return Scaling(label, source, note="no integer sizes were found to shrink")
        new = search.from_meta(given) if given is not None else search.from_cpu()
    if not new:
        return Scaling(label, source, note="the reference runs at no smaller sizes that were tried")
    sizes = {value: new.get(value, value) for value in search.sites.sizes}
    note = "" if search.best <= 2 else f"still {search.best:.1f} times what the interpreter runs in about a second"
    return Scaling(SCALED, search.source(new), sizes, note)


class _Search:
    """One search for smaller sizes. ``best`` is how far over the limit what was returned is."""

    def __init__(self, problem: Problem, source: str, limit: Cost, deadline: float) -> None:
        self.problem = problem
        self.text = source
        self.limit = limit
        self.deadline = deadline
        self.sites: Sites = find_sites(ast.parse(source))
        self.best = 1.0

    def source(self, new: Mapping[int, int]) -> str:
        return replace(self.text, self.sites.edits(new))

    def cost(self, new: Mapping[int, int], device: str) -> Cost | None:
        """What one pass with sizes *new* takes, or None where the reference does not run with them."""
        return measure(self.source(new), self.problem.name, self.problem.mode, device)

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def from_meta(self, given: Cost) -> dict[int, int]:
        """All sizes shrunk together, the least that is enough; failing that, one and two at a time.

        Shrinking together keeps the instance's proportions, so it is preferred as far as twice the limit.
        """
        least: dict[int, int] = {}
        for new in self.together(_POWERS):
            found = self.cost(new, "meta")
            over = found.over(self.limit) if found is not None else math.inf
            if over <= 1 and self.real(new):
                return new
            if over <= (self.best if least else 2) and self.real(new):
                least, self.best = new, over
            if self.late():
                break
        if least:
            return least
        new, found = self.one_by_one(given)
        # Well over the limit a real run may take minutes; what runs on meta is then taken on trust.
        self.best = found.over(self.limit)
        return new if new and (self.best > 100 or self.real(new)) else {}

    def from_cpu(self) -> dict[int, int]:
        """For a reference that meta cannot run (it reads values): real runs, the smallest sizes first."""
        accepted: dict[int, int] = {}
        for new in self.together(tuple(reversed(_POWERS))):
            started = time.monotonic()
            found = self.cost(new, "cpu")
            if found is not None:
                if found.over(self.limit) > 1:
                    if not accepted:
                        accepted, self.best = new, found.over(self.limit)
                    break
                accepted = new
            if self.late() or time.monotonic() - started > 0.5:
                break
        return accepted

    def together(self, powers: tuple[float, ...]) -> Iterator[dict[int, int]]:
        seen: list[dict[int, int]] = []
        for power, divisors in itertools.product(powers, (False, True)):
            new = shrunk(self.sites.sizes, self.sites.kept, power, divisors)
            if new not in seen and any(new[value] != value for value in new):
                seen.append(new)
                yield new

    def one_by_one(self, given: Cost) -> tuple[dict[int, int], Cost]:
        """Sizes shrunk singly, then in pairs by one factor, from what is known to run; stops when that is enough."""
        new = {value: value for value in self.sites.sizes}
        found = given
        for power in _POWERS[4::2]:
            for trial in self.singly(new, power):
                if found.over(self.limit) <= 1 or self.late():
                    return _changed(new), found
                if (cost := self.cost(trial, "meta")) is not None and cost.over(self.limit) <= found.over(self.limit):
                    new.update(trial)
                    found = cost
        return _changed(new), found

    def singly(self, new: dict[int, int], power: float) -> Iterator[dict[int, int]]:
        """Trials that change one size of *new*, or two; *new* may change between them."""
        for value in sorted(new, reverse=True):
            before = new[value]
            for candidate in smaller(before, [*self.sites.kept, *new.values()], power):
                if self.free(new, {value: candidate}):
                    yield {**new, value: candidate}
                if new[value] != before:
                    break
        for first, second in itertools.combinations(sorted(new, reverse=True), 2):
            for factor in (8, 4, 3, 2):
                a, b = new[first], new[second]
                if a % factor == 0 and b % factor == 0 and min(a, b) // factor > 1:
                    pair = {first: a // factor, second: b // factor}
                    if self.free(new, pair):
                        yield {**new, **pair}
                    if new[first] != a:
                        break

    def free(self, new: Mapping[int, int], change: Mapping[int, int]) -> bool:
        """Whether the sizes stay unequal to each other, and to the kept constants, under *change*."""
        others = {at for value, at in new.items() if value not in change} | self.sites.kept
        return len(set(change.values())) == len(change) and not others & set(change.values())

    def real(self, new: Mapping[int, int]) -> bool:
        """Whether the reference runs on values too: meta does not look at indices."""
        return self.cost(new, "cpu") is not None


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


def _changed(new: Mapping[int, int]) -> dict[int, int]:
    return {value: at for value, at in new.items() if at != value}
