"""Outputs of random operators: compared by distribution, since no two draws agree element by element.

What must agree with further draws of the reference: mean, standard deviation, share of zeros; and, each draw beside the
*first*, how many elements they have in common and how they correlate, so that noise of the right spread that was not
computed from the inputs does not pass. Deviations are estimated twice, and the larger counts: from the spread over
draws, and from the spread within one over whatever blocks its noise comes in (rows, channels, samples). Zeros and
elements in common must also be spread as evenly over rows, columns and every other dimension as in the reference, and
two draws of a candidate must not be the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

#: Further draws of the reference beside the first.
DRAWS = 15
_SIGMAS, _SIGMAS_OF_MANY = 6.0, 8.0  # of one statistic; of each row, column, ...
_PART = 1 << 25  # elements of a part: each is compared by itself, which bounds temporaries in fp64 at 256 MiB each
_MOST_DIMS = 4
#: Statistics of one draw; of the last two less is wrong, more is not (the same seed may give the very same noise).
_NAMES = (
    "mean",
    "standard deviation",
    "share of zeros",
    "share of elements in common with another draw",
    "correlation with another draw",
)
_FROM_BELOW = 3
_SPREAD = 1  # the index of the standard deviation
_LEAST_OF_SPREAD = 0.05  # of it: what it may always differ by
_RARE = 4  # elements by which a share may always differ: events so rare that the draws hold none
_FEW = 64
_TELLING = 0.02  # of all elements: fewer zeros that might repeat tell nothing
#: From how many draws the deviation within one is estimated.
_MEASURED = 2
_NOTHING = 1e-300

#: Its value, and its standard deviation (0 where it was not measured).
_Statistic = tuple[float, float]


@dataclass
class Draws:
    """Further draws beside *first*. *allowed* (its shape, or of size 1 where it does not vary): how far apart elements
    count as equal."""

    first: torch.Tensor
    allowed: torch.Tensor
    _found: list[list[list[_Statistic]]] = field(default_factory=list)  # by draw, part, name
    _margins: list[list[_Margin]] = field(default_factory=list)  # by part

    def add(self, draw: torch.Tensor) -> None:
        measured = len(self._found) < _MEASURED
        found = []
        for number, part in enumerate(_parts(real(draw), self.first, self.allowed)):
            found.append(_statistics(part, measured))
            shares = list(_shares(part))
            if number == len(self._margins):
                self._margins.append([_Margin(torch.zeros_like(s), torch.zeros_like(s)) for _, s in shares])
            for margin, (_, share) in zip(self._margins[number], shares, strict=True):
                margin.add(share)
        self._found.append(found)

    def unlike(self, got: torch.Tensor) -> str:
        """What tells *got* from a draw, in words; empty where nothing does, or where it is the first draw itself."""
        for number, part in enumerate(_parts(got, self.first, self.allowed)):
            if not bool(part[0].isfinite().all()):
                return "it has NaN or infinity where the reference has none"
            if bool(((part[0] - part[1]).abs() <= part[2]).all()):
                continue
            given, count = _statistics(part, measured=False), part[0].numel()
            slack = (1e-6 * float(part[1].abs().max()), 0.0, _RARE / count, _RARE / count, 0.0)
            drawn = [self._limits(number, index, slack[index]) for index in range(len(_NAMES))]
            for index, ((value, _), (centre, limit)) in enumerate(zip(given, drawn, strict=True)):
                if index == _SPREAD:  # of few blocks it may be anything: the draws may lack outcomes that are rare
                    limit = max(limit, _LEAST_OF_SPREAD * centre) if self._blocks(number) >= _FEW else math.inf
                off = value - centre if index >= _FROM_BELOW else -abs(value - centre)
                if -off > limit:
                    return f"the {_NAMES[index]} is {value:.6g} where it has {centre:.6g}"
            for (name, share), margin in zip(_shares(part), self._margins[number], strict=True):
                if margin.is_off(share, len(self._found), _RARE * len(share) / count, name in _NAMES[_FROM_BELOW:]):
                    return f"the {name} is uneven: some rows, columns or planes have another than they do there"
        return ""

    def _limits(self, number: int, index: int, slack: float) -> tuple[float, float]:
        """Centre of a statistic of a part over draws, and how far from it one more may lie."""
        drawn = [found[number][index] for found in self._found]
        values = [value for value, _ in drawn]
        centre = math.fsum(values) / len(values)
        between = math.sqrt(sum((value - centre) ** 2 for value in values) / max(1, len(values) - 1))
        within = math.sqrt(sum(sigma**2 for _, sigma in drawn[:_MEASURED]) / min(_MEASURED, len(drawn)))
        return centre, _SIGMAS * max(between, within) * math.sqrt(1 + 1 / len(values)) + slack

    def _blocks(self, number: int) -> float:
        """In about how many independent pieces the noise of a part comes."""
        mean, spread, _, common, _ = (self._limits(number, index, 0.0) for index in range(len(_NAMES)))
        alone = (spread[0], math.sqrt(common[0] * (1 - common[0])))  # deviations of one element
        pairs = zip(alone, (mean[1], common[1]), strict=True)
        return min(((_SIGMAS * one / max(of_all, _NOTHING)) ** 2 for one, of_all in pairs if one), default=math.inf)

    def repeated(self, got: torch.Tensor, again: torch.Tensor) -> str:
        """Whether two draws of a candidate under different seeds have more in common than two of the reference."""
        for number, part in enumerate(_parts(got, again, self.allowed)):
            if self._blocks(number) < _FEW:
                continue
            given = _statistics(part, measured=False)
            for index in range(_FROM_BELOW, len(_NAMES)):
                centre, limit = self._limits(number, index, _RARE / part[0].numel())
                if given[index][0] - centre > math.sqrt(2) * limit:  # neither draw is the one that the centre is about
                    return f"the {_NAMES[index]} is {given[index][0]:.6g} where it has {centre:.6g}: its noise repeats"
        return ""

    def frozen(self, got: torch.Tensor, earlier: Draws, had: torch.Tensor) -> str:
        """Whether the zeros of a candidate's draw lie where those of a draw on other inputs lay (*had*, held to
        *earlier*), more than half of all that could: two draws of the reference say how many do anyway."""
        if got.shape != had.shape or self._blocks(0) < _FEW:
            return ""
        mine, theirs = got == 0, had == 0
        common, most = _share(mine & theirs), min(_share(mine), _share(theirs))
        usual = _share((self.first == 0) & (earlier.first == 0))
        if most - usual > _TELLING and common - usual > (most - usual) / 2:
            return (
                f"{common:.3g} of all elements are zero in both, on other inputs, where that is {usual:.3g} of the "
                "reference's: its noise repeats"
            )
        return ""


@dataclass
class _Margin:
    """A share in each row (column, ...), summed over draws, and its square."""

    total: torch.Tensor
    squares: torch.Tensor

    def add(self, share: torch.Tensor) -> None:
        self.total += share
        self.squares += share**2

    def is_off(self, share: torch.Tensor, draws: int, slack: float, from_below: bool) -> bool:
        """Whether *share* is further from (or below) the mean than any of so many should be."""
        mean = self.total / draws
        variance = float((self.squares / draws - mean**2).mean().clamp_min(0.0)) * draws / (draws - 1)
        off = mean - share if from_below else (mean - share).abs()
        return float(off.max()) > _SIGMAS_OF_MANY * math.sqrt(variance * (1 + 1 / draws)) + slack


def _shares(part: tuple[torch.Tensor, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """The shares of zeros and of elements in common by row, by column and so on, each with its name."""
    draw, first, allowed = part
    shares = (
        (_NAMES[2], (draw == 0).double()),
        (_NAMES[3], (((draw - first).abs() <= allowed) & (draw != 0)).double()),
    )
    for name, elements in shares:
        for dim in range(elements.dim()):
            others = [other for other in range(elements.dim()) if other != dim and elements.shape[other] > 1]
            if others and elements.shape[dim] > 1:
                yield name, elements.mean(dim=others).flatten()


def _share(true: torch.Tensor) -> float:
    return int(true.sum()) / max(1, true.numel())


def real(tensor: torch.Tensor) -> torch.Tensor:
    """*tensor*, or the parts of a complex one along a dimension of their own."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.dtype.is_complex else tensor


def _parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Slices of all along the first dimension, in fp64, none of many more than _PART elements where that can be."""
    whole = tensors[0]
    rows = whole.shape[0] if whole.dim() else 1
    step = max(1, _PART * rows // max(1, whole.numel()))
    for start in range(0, rows, step) if step < rows else (0,):
        stop = start + step if step < rows else None
        yield tuple(t[start:stop].double() if t.dim() and t.shape[0] == rows else t.double() for t in tensors)


def _statistics(part: tuple[torch.Tensor, ...], measured: bool) -> list[_Statistic]:
    """The statistics of a draw, beside the first one and what counts as equal; with their deviations if *measured*."""
    draw, first, allowed = part
    middle, own_middle = first.mean(), draw.mean()
    spreads = (first.std(correction=0) * draw.std(correction=0)).clamp_min(_NOTHING)
    fields: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: draw,
        lambda: (draw - own_middle) ** 2,
        lambda: (draw == 0).double(),
        lambda: ((draw - first).abs() <= allowed).double(),
        lambda: (draw - own_middle) * (first - middle) / spreads,
    )
    found = []
    for index, elements in enumerate(make() for make in fields):
        value, sigma = float(elements.mean()), _deviation(elements) if measured else 0.0
        if index == _SPREAD:  # of the square, so far
            value = math.sqrt(value)
            sigma /= 2 * max(value, _NOTHING)
        found.append((value, sigma))
    return found


def _deviation(elements: torch.Tensor) -> float:
    """The standard deviation of the mean of *elements*, whatever blocks of them are alike: the largest over all choices
    of dimensions to tell blocks apart by, where the rest are averaged over first."""
    shape = [size for size in elements.shape if size > 1]
    while len(shape) > _MOST_DIMS:
        shape[-2:] = [shape[-2] * shape[-1]]
    blocks = elements.reshape(shape)
    dims = range(len(shape))
    largest = 0.0
    for count in dims:
        for averaged in itertools.combinations(dims, count):
            means = blocks.mean(dim=averaged) if averaged else blocks
            largest = max(largest, float(torch.var(means)) / means.numel())
    return math.sqrt(largest)
