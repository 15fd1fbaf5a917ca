"""Which programs of a grid stand for all: by position along each axis, first, inner and last.

A program's class is where it lies on each axis; edge tiles so get a weight of their own, and the rest shares one. The
count of a class is the mean over its sampled programs times the number of programs in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

Program = tuple[int, int, int]
FIRST, INNER, LAST = 0, 1, 2


def place(index: int, size: int) -> int:
    """Where ``index`` lies on an axis of ``size`` programs."""
    if index == 0:
        return FIRST
    return LAST if index == size - 1 else INNER


def class_of(program: Program, grid: Program) -> Program:
    first, second, third = (place(i, n) for i, n in zip(program, grid, strict=True))
    return first, second, third


def members(kind: int, size: int) -> int:
    """How many of ``size`` programs on an axis lie at ``kind``."""
    if kind == INNER:
        return max(size - 2, 0)
    return 1 if kind == FIRST or size > 1 else 0


def weights(grid: Program) -> dict[Program, int]:
    """Programs in each class that has any."""
    found = {
        (a, b, c): members(a, grid[0]) * members(b, grid[1]) * members(c, grid[2])
        for a, b, c in product((FIRST, INNER, LAST), repeat=3)
    }
    return {kind: count for kind, count in found.items() if count}


def representative(kind: Program, grid: Program) -> Program:
    """The program in the middle of a class."""
    first, second, third = ((0, n // 2, n - 1)[k] for k, n in zip(kind, grid, strict=True))
    return first, second, third


def order(grid: Program, sample: int) -> list[Program]:
    """One program a class, the most telling first: middle, last, first, then the others by weight.

    On each axis no more than ``sample`` (1 to 3) places are told apart.
    """
    sizes = weights(grid)
    biggest = max(sizes, key=lambda kind: sizes[kind])
    corner = tuple(place(n - 1, n) for n in grid)
    kinds = sorted(sizes, key=lambda k: (k != biggest, k != corner, k != (FIRST, FIRST, FIRST), -sizes[k]))
    axes = sum(n > 1 for n in grid)
    return [representative(kind, grid) for kind in kinds[: max(1, sample) ** max(axes, 1)]]


def more(grid: Program, taken: set[Program], seed: int = 0) -> Iterator[Program]:
    """Further programs at random, none twice; ends when a small grid is used up."""
    total = grid[0] * grid[1] * grid[2]
    draw = random.Random(seed)
    seen = set(taken)
    while len(seen) < total:
        number = draw.randrange(total)
        program = (number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1]))
        if program not in seen:
            seen.add(program)
            yield program
