"""Recorded groves as landscapes: a strategy is answered with what an earlier search of ours was answered with.

    python -m benchmarks.strategies.recorded grove.db s1 s2 > benchmarks/strategies/groves/softmax.json

Searches of one problem on one device are put together program by program: what was proposed at a program and what came
of it, whoever asked. A recorded landscape knows nothing that was not tried: a program without recorded ideas has none,
and the optimum is the best that was found. It shows how soon a strategy finds what is there, not what else could be.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelgrove.model import Basis, Outcome, TreeView

from .landscape import Asked, Judged
from .suite import FAILED_S, SCREENED_S, SEALED_S, SECONDS

FOLDER = Path(__file__).parent / "groves"
_REFERENCE = "-"


@dataclass(frozen=True)
class Recorded:
    """A program as it was judged."""

    key: str
    outcome: Outcome
    time_ms: float | None
    interval: tuple[float, float] | None

    @property
    def fault(self) -> Outcome | None:
        return None if self.outcome is Outcome.OK else self.outcome


@dataclass(frozen=True)
class Idea:
    text: str
    category: str
    programs: tuple[str, ...]

    @property
    def about(self) -> str:
        return self.text


class Grove:
    """See ``landscape.Landscape``; *found* is what ``record`` gives."""

    held_out = False
    proposers = ("recorded",)

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.name = f"{found['problem']} ({found['models']})"
        self.basis = Basis(found["basis"])
        self.reference_ms = float(found["reference_ms"])
        self._programs = {
            key: Recorded(key, Outcome(outcome), time, tuple(interval) if interval else None)
            for key, (outcome, time, interval) in found["programs"].items()
        }
        self._first = tuple(found["first"])
        self._repairs: Mapping[str, list[str]] = found["repairs"]
        self._ideas = {
            base: tuple(Idea(text, category, tuple(programs)) for text, category, programs in ideas if programs)
            for base, ideas in found["ideas"].items()
        }
        self._usd: Mapping[str, float] = found["usd"]
        times = [p.time_ms for p in self._programs.values() if p.time_ms is not None]
        started = [t for t in (self._programs[key].time_ms for key in self._first) if t is not None]
        self.optimum_ms = min(times)
        self.naive_ms = max(started, default=self.reference_ms)

    def translate(self, rng: random.Random, who: str) -> Recorded | None:
        return self._programs[rng.choice(self._first)] if self._first else None

    def ideas(self, asked: Asked, rng: random.Random, who: str) -> list[Idea]:
        left = [
            i for i in self._ideas.get(asked.base.key if asked.base else _REFERENCE, ()) if not asked.here.get(i.text)
        ]
        return rng.sample(left, min(asked.count, len(left)))

    def carry_out(self, idea: Idea, rng: random.Random, who: str) -> Recorded:
        return self._programs[rng.choice(idea.programs)]

    def repair(self, failed: Recorded, before: int, rng: random.Random, who: str) -> Recorded | None:
        written = self._repairs.get(failed.key)
        return self._programs[rng.choice(written)] if written else None

    def rate(self, ideas: Sequence[Idea], rng: random.Random, who: str) -> list[float]:
        return []  # no rating is recorded by what it was about

    def time_ms(self, program: Recorded) -> float:
        assert program.time_ms is not None
        return program.time_ms

    def judge(self, program: Recorded, best_ms: float | None, rng: random.Random) -> Judged:
        if program.time_ms is None:
            return Judged(program.outcome, seconds=FAILED_S)
        if program.interval is None:
            return Judged(program.outcome, program.time_ms, None, None, SCREENED_S)
        low, high = program.interval
        error = math.log(high / low) / (2 * 1.96)
        moved = math.exp(rng.gauss(0.0, error))
        return Judged(program.outcome, program.time_ms * moved, (low * moved, high * moved), "sealed", SEALED_S)

    def usd(self, kind: str, who: str, count: int = 1) -> float:
        return self._usd.get(kind, 0.0)

    def seconds(self, kind: str, rng: random.Random) -> float:
        return SECONDS[kind] * math.exp(rng.gauss(0.0, 0.4))

    def code(self, program: Recorded) -> str:
        return f"# {program.key}\n"


def load(path: Path) -> Grove:
    return Grove(json.loads(path.read_text()))


def shipped() -> list[Path]:
    """The recorded groves of the suite."""
    return sorted(FOLDER.glob("*.json"))


# ------------------------------------------------------------------------------------------------ recording


def record(problem: str, models: Iterable[str], views: Sequence[TreeView], usd: Mapping[str, float]) -> dict[str, Any]:
    """What a landscape needs of searches of one problem on one device. *usd*: dollars a call by kind, on average.

    Raises ValueError where nothing passed, or where figures of several bases meet.
    """
    programs: dict[str, tuple[str, float | None, tuple[float, float] | None]] = {}
    ideas: dict[str, dict[str, tuple[str, list[str]]]] = {}
    repairs: dict[str, list[str]] = {}
    first: list[str] = []
    bases: set[str] = set()
    references: list[float] = []
    for view in views:
        for i in sorted(view.implementations.values(), key=lambda i: i.id):
            judged = i.evaluation
            if judged is None:
                continue
            key = i.program[:12]
            programs.setdefault(key, (judged.outcome.value, judged.time_ms, judged.time_interval))
            bases |= {judged.basis.value} if judged.time_ms is not None else set()
            references += [judged.baselines["eager"]] if judged.baselines.get("eager") else []  # type: ignore[list-item]
            node = view.nodes[i.node]
            if i.repair_of is not None:
                repairs.setdefault(view.implementations[i.repair_of].program[:12], []).append(key)
            elif node.id == view.root:
                first.append(key)
            else:
                base = _REFERENCE if node.base is None else view.implementations[node.base].program[:12]
                ideas.setdefault(base, {}).setdefault(node.idea.text, (node.idea.category, []))[1].append(key)
    if len(bases) != 1:
        raise ValueError(f"a landscape needs times of one basis, and here are {', '.join(sorted(bases)) or 'none'}")
    return {
        "problem": problem,
        "models": ", ".join(models),
        "basis": bases.pop(),
        "reference_ms": references[0] if references else max(t for _, t, _ in programs.values() if t is not None),
        "usd": dict(usd),
        "first": first,
        "ideas": {base: [[text, c, keys] for text, (c, keys) in by.items()] for base, by in ideas.items()},
        "repairs": repairs,
        "programs": programs,
    }


def _main(arguments: Sequence[str]) -> int:
    from kernelgrove.storage import open_store

    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    with open_store(arguments[0]) as store:
        searches = [int(s.lstrip("s")) for s in arguments[1:]] or [store.latest_search()]
        specs = [store.search(s).spec for s in searches]
        if len({(s.problem.digest, s.device.key, s.precision) for s in specs}) > 1:
            print("these searches are not of one problem on one device: record them apart", file=sys.stderr)
            return 2
        calls = sum(len([j for j in store.tree(s).jobs if j.kind.value in SECONDS]) for s in searches)
        usd = sum(store.spent(s).cost_usd for s in searches) / max(1, calls)
        models = sorted({m for s in specs for m in s.models})
        views = [store.tree(s) for s in searches]
        found = record(specs[0].problem.name, models, views, {kind: round(usd, 6) for kind in SECONDS} if usd else {})
    json.dump(found, sys.stdout, indent=None, separators=(",", ":"))
    print()
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
