"""Synthetic landscapes: an instance of a family, with an optimum that is known by enumeration.

A program is a set of concepts, each carried out at some level. Its log-speedup over a direct translation is

    f = sum of gains x share(level) + sum of pairwise interactions,    time = floor + (1 - floor) exp(-f)

where *enabling* concepts cost something alone and unlock the largest gains, so that the way to the optimum leads
through programs that are slower than their parents. All subsets are enumerated once an instance (at most 2^16).
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np

from kernelgrove.model import Basis, Outcome

from . import suite, words
from .landscape import Asked, Judged
from .suite import PROPOSERS, SHARES, Family, Quality

_NAIVE_MS = 1.0
#: A concept whose enabling one is missing costs this much, in nats, and brings nothing.
_LOCKED = -0.03


@dataclass(frozen=True)
class Kernel:
    """A program: concepts with levels, in order, how it is written down, and its fault if it has one. ``fresh`` are the
    concepts of its last step, which a repair may carry out worse."""

    levels: tuple[tuple[int, int], ...]
    style: int = 0
    broken: tuple[Outcome, int] | None = None
    fresh: tuple[int, ...] = ()

    @property
    def fault(self) -> Outcome | None:
        return self.broken[0] if self.broken else None

    @cached_property
    def key(self) -> str:
        text = "".join(f"{concept:x}{level}" for concept, level in self.levels)
        return f"{text or '-'}.{self.style}" + (f".{self.broken[0].value}{self.broken[1]}" if self.broken else "")

    @cached_property
    def mask(self) -> int:
        return sum(1 << concept for concept, _ in self.levels)


@dataclass(frozen=True)
class Idea:
    """A change of ``base``: concepts to ``add`` (at the level given, else drawn), to tune, or to drop. ``luck``, in
    logits, is shared by all programs that carry it out; ``depth`` counts the thoughts behind it."""

    text: str
    category: str
    about: str
    base: Kernel | None
    add: tuple[tuple[int, int | None], ...] = ()
    drop: int | None = None
    tune: bool = False
    graft: bool = False
    luck: float = 0.0
    depth: int = 0


@lru_cache(maxsize=32)
def instance(family: Family, seed: int) -> Synthetic:
    return Synthetic(family, seed)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _chance(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


#: Averaging a logistic over a normal spread pulls it towards a half; this undoes it, so that shares come out as given.
_SPREAD = math.sqrt(1 + math.pi * (suite.CONCEPT_SPREAD**2 + suite.IDEA_SPREAD**2) / 8)


@dataclass
class Synthetic:
    """See ``landscape.Landscape``."""

    family: Family
    seed: int
    basis: Basis = field(default=Basis.MEASURED, init=False)

    def __post_init__(self) -> None:
        family = self.family
        rng = random.Random(f"landscape {family.name} {self.seed}")
        self.name, self.held_out, self.proposers = family.name, family.held_out, family.proposers
        n = family.concepts
        self._words = rng.sample(words.CONCEPTS, n)
        self._unlocks = self._draw_unlocks(rng)
        gains = self._draw_gains(rng)
        median = float(np.median([g for g in gains if g > 0]))
        pairs = [[0.0] * n for _ in range(n)]
        for j in range(n):
            for k in range(j):
                if rng.random() < 0.3:
                    pairs[j][k] = pairs[k][j] = rng.gauss(0.0, family.rugged * median)
        self._scale(gains, pairs, wanted=family.potential * math.exp(rng.gauss(0.0, 0.2)))
        self._best = array("d", self._table(self._gains, self._pairs, _LOCKED))
        ranks = rng.sample(range(1, n + 1), n)
        odds = [rank**-family.skew for rank in ranks]
        self._odds = [o / sum(odds) for o in odds]
        self._ease = [rng.gauss(0.0, suite.CONCEPT_SPREAD) for _ in range(n)]
        self.naive_ms = _NAIVE_MS
        self.reference_ms = _NAIVE_MS * math.exp(-family.handicap)
        self.optimum_ms = self._ms(max(self._best))

    # ------------------------------------------------------------------------------------------- the instance

    def _draw_unlocks(self, rng: random.Random) -> list[int]:
        """For each concept the one that it needs, or -1: enabling ones come first and unlock one to three."""
        unlocks = [-1] * self.family.concepts
        free = list(range(self.family.enabling, self.family.concepts))
        rng.shuffle(free)
        for enabling in range(self.family.enabling):
            for _ in range(rng.choice((1, 2, 2, 3))):
                if len(free) > self.family.concepts // 3:
                    unlocks[free.pop()] = enabling
        return unlocks

    def _draw_gains(self, rng: random.Random) -> list[float]:
        """Heavy-tailed gains, the largest behind enabling concepts; costs as a published path shows them."""
        family = self.family
        behind = [c for c in range(family.concepts) if self._unlocks[c] >= 0]
        others = [c for c in range(family.enabling, family.concepts) if self._unlocks[c] < 0]
        helpful = [c for c in others if rng.random() >= family.harmful] or others[:1]
        drawn = sorted(0.2 * math.exp(rng.gauss(0.0, family.tail)) for _ in range(len(behind) + len(helpful)))
        gains = [-0.065 * math.exp(rng.gauss(0.0, 0.7)) for _ in range(family.concepts)]
        for concept in behind:  # from the upper half, but not always the very largest
            gains[concept] = drawn.pop(rng.randrange(len(drawn) // 2, len(drawn)))
        for concept in helpful:
            gains[concept] = drawn.pop(rng.randrange(len(drawn)))
        return gains

    def _scale(self, gains: Sequence[float], pairs: Sequence[Sequence[float]], wanted: float) -> None:
        """Stretch gains and interactions until the optimum is *wanted* nats away. Costs stay as they were drawn."""
        scale = 1.0
        for _ in range(8):
            self._gains = [g * scale if g > 0 else g for g in gains]
            self._pairs = [[p * scale for p in row] for row in pairs]
            scale *= wanted / float(np.max(self._table(self._gains, self._pairs, _LOCKED)))

    def _table(self, gains: Sequence[float], pairs: Sequence[Sequence[float]], locked: float) -> np.ndarray:
        """f of every set of concepts, all at the best level, by bit mask."""
        table = np.zeros(1)
        for j, gain in enumerate(gains):
            together = np.zeros(1)
            for k in range(j):
                together = np.concatenate([together, together + pairs[j][k]])
            own: float | np.ndarray = gain
            if self._unlocks[j] >= 0:
                there = (np.arange(1 << j) >> self._unlocks[j]) & 1
                own = np.where(there == 1, gain, locked)
            table = np.concatenate([table, table + own + together])
        return table

    def _ms(self, nats: float) -> float:
        return _NAIVE_MS * (self.family.floor + (1 - self.family.floor) * math.exp(-nats))

    def time_ms(self, program: Kernel) -> float:
        total, mask = 0.0, program.mask
        for at, (concept, level) in enumerate(program.levels):
            gain, needs = self._gains[concept], self._unlocks[concept]
            if needs >= 0 and not mask >> needs & 1:
                total += _LOCKED
            else:
                total += gain * SHARES[level] if gain > 0 else gain
            row = self._pairs[concept]
            for other, its_level in program.levels[:at]:
                pair = row[other]
                total += pair * SHARES[min(level, its_level)] if pair > 0 else pair
        return self._ms(total)

    # -------------------------------------------------------------------------------------------- the proposer

    def translate(self, rng: random.Random, who: str) -> Kernel:
        quality = PROPOSERS[who]
        ready = [c for c in range(self.family.concepts) if self._unlocks[c] < 0]
        count = _pick(rng, suite.DIRECT)
        chosen: dict[int, int] = {}
        for _ in range(min(count, len(ready))):
            rest = [c for c in ready if c not in chosen]
            concept = rest[_pick(rng, [self._odds[c] for c in rest])]
            chosen[concept] = _pick(rng, quality.levels)
        return self._written(chosen, tuple(chosen), _chance(_logit(quality.first) + 0.2 - 0.2 * count), rng)

    def ideas(self, asked: Asked, rng: random.Random, who: str) -> list[Idea]:
        assert asked.base is None or isinstance(asked.base, Kernel)
        if isinstance(asked.thought, Idea):
            return self._thoughts(asked.thought, asked, rng, PROPOSERS[who])
        found: list[Idea] = []
        moves, odds = self._moves(asked, PROPOSERS[who])
        for _ in range(min(asked.count, len(moves))):
            others = [o for o in asked.others if isinstance(o, Kernel)]
            graft = self._graft(asked.base, rng.choice(others), rng) if rng.random() < asked.graft and others else None
            if graft is not None and all(graft.about != idea.about for idea in found):
                found.append(graft)
                continue
            at = _pick(rng, odds)
            found.append(self._idea(moves[at], asked.base, rng))
            odds[at] = 0.0
        return found

    def _moves(self, asked: Asked, quality: Quality) -> tuple[list[tuple[str, int]], list[float]]:
        """What can be named at a program, and how likely each is to be."""
        base = asked.base or Kernel(())
        assert isinstance(base, Kernel)
        mask, here, anywhere, mean = base.mask, asked.here, asked.anywhere, 1 / self.family.concepts
        now = self._best[mask]
        moves: list[tuple[str, int]] = []
        odds: list[float] = []
        for concept in range(self.family.concepts):
            if mask >> concept & 1:
                continue
            needs = self._unlocks[concept]
            ready = 1.0 if needs < 0 else suite.UNLOCKED_ODDS if mask >> needs & 1 else suite.LOCKED_ODDS
            gain = self._best[mask | 1 << concept] - now
            moves.append(("add", concept))
            odds.append(self._odds[concept] * ready * math.exp(quality.insight * gain))
        for concept, level in base.levels:
            if level < len(SHARES) - 1:
                moves.append(("tune", concept))
                odds.append(mean * suite.TUNE_ODDS)
            moves.append(("drop", concept))
            gain = self._best[mask ^ 1 << concept] - now
            odds.append(mean * suite.DROP_ODDS * math.exp(quality.insight * gain))
        for at, (what, concept) in enumerate(moves):
            about = f"{what} {concept}"
            odds[at] *= suite.AVOID_HERE ** here.get(about, 0) * suite.AVOID_ANYWHERE ** anywhere.get(about, 0)
        return moves, odds

    def _idea(self, move: tuple[str, int], base: Kernel | None, rng: random.Random) -> Idea:
        what, concept = move
        category, wordings = self._words[concept]
        text = rng.choice(wordings)
        luck = rng.gauss(0.0, suite.IDEA_SPREAD)
        if what == "add":
            return Idea(text, category, f"add {concept}", base, ((concept, None),), luck=luck)
        if what == "tune":
            text = rng.choice(words.TUNE).format(text.lower())
            return Idea(text, category, f"tune {concept}", base, ((concept, None),), tune=True, luck=luck)
        text = rng.choice(words.DROP).format(text.lower())
        return Idea(text, category, f"drop {concept}", base, drop=concept, luck=luck)

    def _graft(self, base: Kernel | None, other: Kernel, rng: random.Random) -> Idea | None:
        """Up to three concepts of *other* that *base* lacks, as they are carried out there."""
        mask = base.mask if base else 0
        missing = [(c, level) for c, level in other.levels if not mask >> c & 1]
        if not missing:
            return None
        taken = tuple(sorted(rng.sample(missing, min(len(missing), rng.randint(1, 3)))))
        said = "; ".join(rng.choice(self._words[c][1]).lower() for c, _ in taken)
        about = "graft " + ",".join(str(c) for c, _ in taken)
        luck = rng.gauss(0.0, suite.IDEA_SPREAD)
        return Idea(rng.choice(words.GRAFT).format(said), "crossover", about, base, taken, graft=True, luck=luck)

    def _thoughts(self, idea: Idea, asked: Asked, rng: random.Random, quality: Quality) -> list[Idea]:
        """Thoughts on an idea that has no code yet."""
        found: list[Idea] = []
        for at in range(asked.count):
            deeper = replace(
                idea,
                text=words.THOUGHT[at % len(words.THOUGHT)].format(idea.text),
                depth=idea.depth + 1,
                luck=0.5 * idea.luck + rng.gauss(0.0, 0.85 * suite.IDEA_SPREAD),
            )
            kind = _pick(rng, suite.THINK)
            if kind:  # add one, or swap it for another
                moves, odds = self._moves(asked, quality)
                there = dict(idea.add)
                odds = [
                    o if what == "add" and concept not in there else 0.0
                    for (what, concept), o in zip(moves, odds, strict=True)
                ]
                if any(odds):
                    new = self._idea(moves[_pick(rng, odds)], idea.base, rng)
                    if kind == 1 and not idea.tune and idea.drop is None:
                        about = " ".join(sorted({idea.about, new.about}))
                        add = tuple(sorted({*idea.add, *new.add}))
                        deeper = replace(deeper, text=f"{idea.text}, and: {new.text}", about=about, add=add)
                    else:
                        deeper = replace(new, depth=idea.depth + 1)
            found.append(deeper)
        return found

    def carry_out(self, idea: Idea, rng: random.Random, who: str) -> Kernel:
        quality = PROPOSERS[who]
        levels = dict(idea.base.levels) if idea.base else {}
        logit = _logit(quality.next) * _SPREAD + self.family.difficulty + idea.luck
        logit += suite.CROWDED * len(levels) + suite.THOUGHT_LOGIT * idea.depth
        logit += suite.GRAFTED if idea.graft else 0.0
        if idea.drop is not None:
            levels.pop(idea.drop, None)
            return self._written(levels, (), _chance(logit + suite.SMALL_EDIT), rng)
        for concept, given in idea.add:
            level = given
            if level is None:
                level = _pick(rng, suite.TUNED_LEVELS if idea.tune else quality.levels)
                for _ in range(idea.depth):
                    level = min(level + (rng.random() < suite.THOUGHT_LEVEL), len(SHARES) - 1)
            levels[concept] = level
        logit += sum(self._ease[c] for c, _ in idea.add) / len(idea.add)
        logit += suite.COMPOUND * (len(idea.add) - 1) + (suite.SMALL_EDIT if idea.tune else 0.0)
        return self._written(levels, tuple(c for c, _ in idea.add), _chance(logit), rng)

    def _written(self, levels: dict[int, int], fresh: tuple[int, ...], right: float, rng: random.Random) -> Kernel:
        broken = None if rng.random() < right else self._fault(rng)
        return Kernel(tuple(sorted(levels.items())), rng.randrange(suite.STYLES), broken, fresh)

    def _fault(self, rng: random.Random) -> tuple[Outcome, int]:
        kinds = list(suite.FAULTS)
        return Outcome(kinds[_pick(rng, list(suite.FAULTS.values()))]), rng.randrange(1000)

    def repair(self, failed: Kernel, before: int, rng: random.Random, who: str) -> Kernel:
        assert failed.broken is not None
        logit = _logit(PROPOSERS[who].repair) + suite.REPAIR_LOGITS.get(failed.broken[0].value, 0.0)
        logit += suite.REPAIR_AGAIN * before
        if failed.fresh:
            logit += 0.5 * sum(self._ease[c] for c in failed.fresh) / len(failed.fresh)
        if rng.random() >= _chance(logit):
            return failed if rng.random() < suite.REPAIR_IDLE else replace(failed, broken=self._fault(rng))
        levels = dict(failed.levels)
        for concept in failed.fresh:
            if concept in levels and rng.random() < suite.REPAIR_LOSES:
                levels[concept] = max(0, levels[concept] - 1)
        return Kernel(tuple(sorted(levels.items())), rng.randrange(suite.STYLES), None, failed.fresh)

    def rate(self, ideas: Sequence[Idea], rng: random.Random, who: str) -> list[float]:
        found = []
        for idea in ideas:
            before = self.time_ms(idea.base) if idea.base else _NAIVE_MS
            levels = dict(idea.base.levels) if idea.base else {}
            levels.update((c, len(SHARES) - 1 if level is None else level) for c, level in idea.add)
            levels.pop(-1 if idea.drop is None else idea.drop, None)
            gain = math.log(before / self.time_ms(Kernel(tuple(sorted(levels.items())))))
            found.append(_chance(2.0 * (gain + rng.gauss(0.0, suite.RATING_NOISE))))
        return found

    # ------------------------------------------------------------------------------------------- the evaluator

    def judge(self, program: Kernel, best_ms: float | None, rng: random.Random) -> Judged:
        if program.fault is not None:
            return Judged(program.fault, seconds=suite.FAILED_S)
        here = self.time_ms(program) * math.exp(rng.gauss(0.0, self.family.between))
        screened = _timed(here, self.family.screened, "screened", suite.SCREENED_S, rng)
        assert screened.interval is not None
        if best_ms is not None and screened.interval[0] > best_ms:
            return screened
        return _timed(here, self.family.sealed, "sealed", suite.SEALED_S, rng)

    def usd(self, kind: str, who: str, count: int = 1) -> float:
        quality = PROPOSERS[who]
        if kind == "ideate":
            return quality.ideate_usd + count * quality.idea_usd
        return {"implement": quality.implement_usd, "repair": quality.repair_usd, "rate": quality.rate_usd}[kind]

    def seconds(self, kind: str, rng: random.Random) -> float:
        return suite.SECONDS[kind] * math.exp(rng.gauss(0.0, 0.4))

    def code(self, program: Kernel) -> str:
        lines = ["import torch, triton", f"# way {program.style}", "class ModelNew(torch.nn.Module):"]
        for concept, level in program.levels:
            text = self._words[concept][1][program.style % 3]
            lines += [
                f"    # {text}",
                f"    step_{concept} = build_{concept}(block={2 ** (4 + level)}, stages={level})",
            ]
        lines.append("    def forward(self, *inputs): return run(self, inputs)")
        if program.broken:
            lines.append(f"    fault_{program.broken[1]} = {program.broken[0].value!r}")
        return "\n".join(lines)


def _timed(true_ms: float, error: float, timing: str, seconds: float, rng: random.Random) -> Judged:
    found = true_ms * math.exp(rng.gauss(0.0, error))
    low, high = found * math.exp(-1.96 * error), found * math.exp(1.96 * error)
    return Judged(Outcome.OK, found, (low, high), timing, seconds)


def _pick(rng: random.Random, odds: Sequence[float]) -> int:
    """An index with chances in proportion to *odds*."""
    at, left = 0, rng.random() * sum(odds)
    for at, chance in enumerate(odds):
        left -= chance
        if left < 0:
            return at
    return at
