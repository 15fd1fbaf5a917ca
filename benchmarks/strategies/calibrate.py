"""Prints published figures beside what the synthetic landscapes give. Runs no strategy.

python -m benchmarks.strategies.calibrate
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence

from .landscape import Asked
from .suite import FAMILIES, PROPOSERS, Family
from .synthetic import Kernel, Synthetic, instance

#: CRFM 2025, "Surprisingly fast AI-generated kernels", Conv2D: milliseconds after each round of the winning path.
PUBLISHED_PATH = (7.02, 7.54, 3.46, 3.67, 3.46, 1.91, 1.37, 1.38, 1.37, 1.36, 1.07, 1.21, 1.01, 0.795)
_INSTANCES = 40


def _row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def _rates(family: Family, who: str) -> tuple[float, float, float, float, float]:
    """Shares right: first, next, repaired; and of a second attempt where the first failed or passed."""
    first: list[bool] = []
    following: list[bool] = []
    repaired: list[bool] = []
    again: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(_INSTANCES):
        land, rng = instance(family, seed), random.Random(seed)
        for _ in range(30):
            base = land.translate(rng, who)
            first.append(base.fault is None)
            for idea in land.ideas(Asked(None if base.fault else base, 2), rng, who):
                one, two = land.carry_out(idea, rng, who), land.carry_out(idea, rng, who)
                following += [one.fault is None, two.fault is None]
                again[one.fault is None].append(two.fault is None)
                if one.fault is not None and one.fault.value in ("compile_error", "wrong_result", "runtime_error"):
                    repaired.append(land.repair(one, 0, rng, who).fault is None)
    return (*map(_share, (first, following, repaired, again[True], again[False])),)  # type: ignore[return-value]


def _share(of: list[bool]) -> float:
    return sum(of) / max(1, len(of))


def _ladder(land: Synthetic, rng: random.Random, who: str) -> list[float]:
    """Times along one way from a direct translation to the optimal set of concepts: enabling ones before what they
    unlock, the rest in any order, every step the best of three implementations, as the published search wrote them."""
    best = max(range(len(land._best)), key=land._best.__getitem__)
    wanted = [c for c in range(land.family.concepts) if best >> c & 1]
    now, times = Kernel(()), [land.naive_ms]
    while wanted:
        ready = [c for c in wanted if land._unlocks[c] < 0 or now.mask >> land._unlocks[c] & 1]
        concept = rng.choice(ready or wanted)
        wanted.remove(concept)
        level = max(rng.choices(range(4), PROPOSERS[who].levels, k=3))
        now = Kernel(tuple(sorted([*now.levels, (concept, level)])))
        times.append(land.time_ms(now))
    return times


def _steps(times: Sequence[float]) -> list[float]:
    return [math.log(a / b) for a, b in itertools.pairwise(times)]


def _gains(family: Family) -> Iterator[float]:
    """What the programs that are right gain over what they build on, ideas as the proposer names them."""
    for seed in range(_INSTANCES):
        land, rng = instance(family, seed), random.Random(seed)
        who = family.proposers[0]
        now = Kernel(())
        for _ in range(60):
            idea = land.ideas(Asked(now, 1), rng, who)[0]
            child = land.carry_out(idea, rng, who)
            if child.fault is None:
                gain = math.log(land.time_ms(now) / land.time_ms(child))
                yield gain
                now = child if gain > -0.1 and len(child.levels) < 8 else Kernel(())


def _correlation(family: Family) -> float:
    """Rank correlation of ratings with what the rated ideas bring at their best."""
    given: list[float] = []
    true: list[float] = []
    for seed in range(_INSTANCES):
        land, rng = instance(family, seed), random.Random(seed)
        ideas = land.ideas(Asked(Kernel(()), 6), rng, family.proposers[0])
        given += land.rate(ideas, rng, family.proposers[0])
        for idea in ideas:
            levels = dict(idea.base.levels if idea.base else ()) | {c: 3 for c, _ in idea.add}
            true.append(-land.time_ms(Kernel(tuple(sorted(levels.items())))) / land.naive_ms)
    return statistics.correlation(_ranks(given), _ranks(true))


def _ranks(values: list[float]) -> list[int]:
    at = sorted(range(len(values)), key=values.__getitem__)
    return [rank for _, rank in sorted((index, rank) for rank, index in enumerate(at))]


def main() -> None:
    print("### Right at the first try, without error feedback, and repaired with it\n")
    _row("family", "proposer", "first", "next", "repair", "next, where its twin passed", "where its twin failed")
    _row(*["---"] * 7)
    _row("published", "", "0.70", "0.23", "0.41–0.62", "", "")
    for family in FAMILIES:
        for who in family.proposers:
            _row(family.name, who, *(f"{share:.2f}" for share in _rates(family, who)))
    print("\n### Steps of a way to the optimum, in nats\n")
    _row("family", "nats in all", "steps", "slower than the parent", "median gain", "largest", "median loss")
    _row(*["---"] * 7)
    _describe("published (CRFM Conv2D)", [PUBLISHED_PATH])
    for family in FAMILIES:
        ways = [_ladder(instance(family, seed), random.Random(seed), family.proposers[0]) for seed in range(_INSTANCES)]
        _describe(family.name, ways)
    print("\n### What ideas bring, of programs that are right\n")
    _row("family", "no faster", "median", "90 %", "99 %", "rank correlation of ratings")
    _row(*["---"] * 6)
    for family in FAMILIES:
        found = sorted(_gains(family))
        cuts = [f"{found[int(len(found) * q)]:+.2f}" for q in (0.5, 0.9, 0.99)]
        _row(family.name, f"{_share([g <= 0.005 for g in found]):.2f}", *cuts, f"{_correlation(family):.2f}")


def _describe(name: str, ways: Sequence[Sequence[float]]) -> None:
    steps = [step for way in ways for step in _steps(way)]
    up, down = [s for s in steps if s > 0], [s for s in steps if s <= 0]
    _row(
        name,
        f"{statistics.mean(math.log(way[0] / way[-1]) for way in ways):.2f}",
        f"{len(steps) / len(ways):.1f}",
        f"{len(down) / len(steps):.2f}",
        f"{statistics.median(up):.2f}",
        f"{statistics.mean(max(_steps(way)) for way in ways):.2f}",
        f"{statistics.median(down) if down else 0:.3f}",
    )


if __name__ == "__main__":
    main()
