"""The parameters of the suite. Committed before any strategy was run on it; not to be touched afterwards.

docs/benchmarks/landscapes.md says what each figure is fitted to, and ``python -m benchmarks.strategies.calibrate``
prints the published figures beside what the landscapes give. Times are relative to the reference (1.0), effects are
in nats of log-time: 0.69 is twice as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# ------------------------------------------------------------------------------------------------ proposers


@dataclass(frozen=True)
class Quality:
    """How well a proposer does. ``first``, ``next``, ``repair``: share that is right of direct translations, of ideas
    carried out without error feedback, and of repairs with it. ``insight``: by how much a gain of one nat raises the
    odds that its idea is named. ``levels``: how well a concept is carried out, worst to best. Dollars a call."""

    first: float
    next: float
    repair: float
    insight: float
    levels: tuple[float, float, float, float]
    ideate_usd: float
    idea_usd: float
    implement_usd: float
    repair_usd: float
    rate_usd: float


PROPOSERS: Mapping[str, Quality] = {
    # 7 of 10, 7 of 30 and the middle of 41-62 %: the published figures
    "published": Quality(0.70, 0.233, 0.515, 0.5, (0.35, 0.30, 0.20, 0.15), 0.016, 0.003, 0.050, 0.056, 0.010),
    "strong": Quality(0.90, 0.55, 0.62, 1.0, (0.20, 0.30, 0.28, 0.22), 0.040, 0.008, 0.140, 0.150, 0.025),
    "weak": Quality(0.50, 0.15, 0.41, 0.2, (0.45, 0.30, 0.15, 0.10), 0.003, 0.001, 0.010, 0.011, 0.002),
}

# ------------------------------------------------------------------------------- what holds on every landscape

#: Share of a concept's gain at each level at which it can be carried out.
SHARES = (0.35, 0.65, 0.85, 1.0)
#: Levels that a tuning idea draws from.
TUNED_LEVELS = (0.15, 0.25, 0.30, 0.30)
#: How many concepts a direct translation brings along: chances of 0, 1, 2, 3.
DIRECT = (0.35, 0.35, 0.20, 0.10)
#: Ways to write the same program down.
STYLES = 3
#: A failure's kind.
FAULTS: Mapping[str, float] = {
    "compile_error": 0.55,
    "wrong_result": 0.30,
    "runtime_error": 0.10,
    "timeout": 0.03,
    "out_of_memory": 0.02,
}
#: Spread of difficulty in logits: between concepts, and between wordings of one concept (shared by its programs).
CONCEPT_SPREAD, IDEA_SPREAD = 0.8, 0.5
#: Logits: for each further concept in one go, for each concept that is there already, for small edits, for grafts.
COMPOUND, CROWDED, SMALL_EDIT, GRAFTED = -0.5, -0.04, 0.8, 0.5
#: Logits for a repair, by what failed, and for each repair before it in the chain.
REPAIR_LOGITS: Mapping[str, float] = {"compile_error": 0.3, "wrong_result": -0.45, "runtime_error": 0.0}
REPAIR_AGAIN = -0.6
#: Chance that a repaired concept comes out a level lower, and that a failed repair changes nothing in the text.
REPAIR_LOSES, REPAIR_IDLE = 0.5, 0.15
#: Odds of naming a concept again: for each time it was named at this very program, and anywhere in the search.
AVOID_HERE, AVOID_ANYWHERE = 0.25, 0.75
#: Odds of ideas that tune or drop what is there, of a concept that is still locked, and of one just unlocked.
TUNE_ODDS, DROP_ODDS, LOCKED_ODDS, UNLOCKED_ODDS = 0.35, 0.10, 0.15, 2.5
#: Chance that an idea takes from another program: asked to (crossover), or merely shown some (inspirations).
GRAFT_ASKED, GRAFT_SHOWN = 0.7, 0.2
#: A thought on a thought: works it out, adds a concept to it, or swaps it. Logits and chance of a level for each.
THINK = (0.5, 0.3, 0.2)
THOUGHT_LOGIT, THOUGHT_LEVEL = 0.4, 0.35
#: Noise of a rating, in nats.
RATING_NOISE = 0.35
#: Virtual seconds of a call (median; lognormal with sigma 0.4) and of an evaluation.
SECONDS: Mapping[str, float] = {"ideate": 20.0, "implement": 60.0, "repair": 50.0, "rate": 10.0}
FAILED_S, SCREENED_S, SEALED_S = 2.0, 3.0, 6.0


# --------------------------------------------------------------------------------------------------- families


@dataclass(frozen=True)
class Family:
    """A kind of problem; a seed makes an instance of it.

    ``concepts`` that can be in a program, ``enabling`` of them cost something by themselves and unlock others (which
    are the largest); ``harmful`` is the share of the rest that never helps. ``potential``: nats from a direct
    translation to the optimum, before ``floor``, the share of the direct translation's time that nothing removes.
    ``tail``: sigma of the lognormal gains. ``rugged``: standard deviation of pairwise interactions against the median
    gain. ``difficulty``: logits on every attempt. ``skew``: exponent of how often concepts are named. ``sealed``,
    ``screened``: standard error of a time; ``between``: of a process, which no interval covers. ``handicap``: nats
    from the reference to a direct translation.
    """

    name: str
    concepts: int
    enabling: int
    harmful: float
    potential: float
    tail: float
    rugged: float
    floor: float
    difficulty: float
    skew: float
    sealed: float
    screened: float
    between: float
    handicap: float
    proposers: tuple[str, ...]
    held_out: bool


#: Strategies were developed with sight of the first four (seeds from 10,000); the last four were kept for the report.
FAMILIES: tuple[Family, ...] = (
    Family(
        "pointwise", 10, 1, 0.40, 0.9, 0.9, 0.3, 0.25, 0.3, 1.0, 0.004, 0.015, 0.006, 0.1, ("strong",), held_out=False
    ),
    Family(
        "reduction", 12, 2, 0.40, 1.4, 1.1, 0.5, 0.10, 0.0, 1.0, 0.005, 0.02, 0.008, 0.3, ("published",), held_out=False
    ),
    Family(
        "convolution", 16, 4, 0.35, 3.0, 1.1, 0.6, 0.02, 0.0, 0.8, 0.005, 0.02, 0.008, 1.4, ("published",),
        held_out=False,
    ),
    Family(
        "attention", 16, 4, 0.45, 2.0, 1.2, 1.0, 0.03, -0.6, 0.8, 0.006, 0.02, 0.010, 1.2, ("strong",), held_out=False
    ),
    Family("scan", 11, 3, 0.45, 1.6, 1.2, 0.6, 0.08, 0.2, 1.2, 0.005, 0.02, 0.008, 0.8, ("weak",), held_out=True),
    Family(
        "matmul", 14, 3, 0.45, 1.3, 1.0, 0.9, 0.15, -0.3, 0.8, 0.005, 0.02, 0.008, 1.0, ("published",), held_out=True
    ),
    Family(
        "noisy_norm", 12, 1, 0.40, 0.6, 0.8, 0.4, 0.30, 0.2, 1.0, 0.02, 0.06, 0.030, 0.2, ("strong",), held_out=True
    ),
    Family(
        "fused_block", 15, 3, 0.40, 1.8, 1.2, 0.6, 0.05, -0.2, 0.9, 0.006, 0.025, 0.010, 0.4, ("strong", "weak"),
        held_out=True,
    ),
)  # fmt: skip

#: Seeds of the report, and where those of development begin.
REPORT_SEEDS = range(200)
DEVELOPMENT_SEEDS = 10_000
#: Budgets in evaluations, and how many proposer calls and evaluations run at once, for every contender.
BUDGETS = (50, 100, 300)
CALLS_AT_ONCE = 8
JUDGED_AT_ONCE = 2
#: A search ends after so many proposer calls for each evaluation of its budget, whatever was judged.
CALLS_PER_EVALUATION = 6
