"""Runs searches over landscapes in worker processes and keeps what they came to, a line each, so that a run that was
interrupted goes on where it stopped."""

from __future__ import annotations

import ast
import gc
import hashlib
import json
import math
import multiprocessing
import sys
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from . import suite
from .contenders import contender
from .landscape import Landscape
from .recorded import load
from .simulator import Limits, Trace
from .synthetic import instance

#: Where a search's regret is noted: after so many evaluations, and once so much is spent (in implement calls' prices).
EVALUATIONS = (5, *range(10, suite.BUDGETS[-1] + 1, 10))
PRICES = (5, *range(10, 401, 10))

_SOURCES = ("kernelgrove/strategies", "kernelgrove/engine/planning.py", "benchmarks/strategies")
#: Files there on which no outcome depends.
_APART = (
    *("report.py", "curves.py", "statistic.py", "__main__.py", "large.py", "calibrate.py", "runs.py"),
    *("custom.py", "kernelgrove/strategies/__init__.py"),
)


@dataclass(frozen=True)
class Task:
    """One search. *variant* names a change to the suite's assumptions ("" is none)."""

    contender: str
    landscape: str
    seed: int
    evaluations: int = suite.BUDGETS[-1]
    calls_at_once: int = suite.CALLS_AT_ONCE
    variant: str = ""


@dataclass(frozen=True)
class Outcome:
    """``regret`` at EVALUATIONS, ``spent`` at PRICES (regret again), both in nats."""

    task: Task
    regret: tuple[float, ...]
    spent: tuple[float, ...]
    evaluations: int
    ok: int
    again: int
    calls: int
    usd: float
    hours: float


def fingerprint(root: Path) -> str:
    """Of all code that a search's outcome depends on, its comments and docstrings aside."""
    found = hashlib.sha256()
    for source in _SOURCES:
        path = root / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not str(file).endswith(_APART):
                found.update(
                    _bare(file) if file.suffix == ".py" else file.read_bytes() if file.suffix == ".json" else b""
                )
    return found.hexdigest()[:16]


def _bare(file: Path) -> bytes:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()


def landscape(name: str, seed: int) -> Landscape:
    """A family's instance, or a recorded grove by its file's name. Raises KeyError for neither."""
    families = {family.name: family for family in suite.FAMILIES}
    if name in families:
        return instance(families[name], seed)  # type: ignore[return-value]
    groves = {path.stem: path for path in (Path(__file__).parent / "groves").glob("*.json")}
    return load(groves[name])  # type: ignore[return-value]


def vary(variant: str) -> None:
    """Change an assumption, in this process. Raises KeyError for a variant that is none."""
    changes = {
        "": {},
        "thinking adds nothing": {"THOUGHT_LOGIT": 0.0, "THOUGHT_LEVEL": 0.0},
        "ratings say nothing": {"RATING_NOISE": 50.0},
        "neither": {"THOUGHT_LOGIT": 0.0, "THOUGHT_LEVEL": 0.0, "RATING_NOISE": 50.0},
    }[variant]
    defaults = {"THOUGHT_LOGIT": 0.4, "THOUGHT_LEVEL": 0.35, "RATING_NOISE": 0.35}
    for key, value in {**defaults, **changes}.items():
        setattr(suite, key, value)


def search(task: Task) -> Outcome:
    gc.disable()  # views and indices hold no cycles: looking for some is a fifth of a search
    vary(task.variant)
    land = landscape(task.landscape, task.seed)
    limits = Limits(task.evaluations, calls_at_once=task.calls_at_once)
    trace = contender(task.contender).run(land, task.seed, limits)
    outcome = _outcome(task, land, trace)
    gc.collect()
    return outcome


def _outcome(task: Task, land: Landscape, trace: Trace) -> Outcome:
    regrets = [math.log(ms / land.optimum_ms) for ms in trace.held_ms]
    nothing = math.log(land.naive_ms / land.optimum_ms)

    def after(count: int) -> float:
        return round(regrets[min(count, len(regrets)) - 1] if regrets and count else nothing, 5)

    price = land.usd("implement", land.proposers[0]) or 1.0
    return Outcome(
        task,
        tuple(after(count) for count in EVALUATIONS),
        tuple(after(bisect_right(trace.usd, units * price)) for units in PRICES),
        len(trace.held_ms),
        trace.outcomes["ok"],
        trace.again,
        trace.calls,
        round(trace.usd[-1] if trace.usd else 0.0, 4),
        round(trace.seconds / 3600, 4),
    )


def run(tasks: Iterable[Task], kept: Path, mark: str, processes: int) -> list[Outcome]:
    """What *tasks* came to: those in *kept* under *mark* as they are, the rest run now and kept."""
    wanted = list(tasks)
    found = {o.task: o for o in _read(kept, mark)}
    missing = [task for task in wanted if task not in found]
    if missing:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if kept.exists():  # without a last line that a kill cut short
            with kept.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        begun = time.monotonic()
        with (
            kept.open("a", encoding="utf-8") as out,
            multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=2000) as pool,
        ):
            for done, outcome in enumerate(pool.imap_unordered(search, missing, chunksize=4), 1):
                found[outcome.task] = outcome
                out.write(json.dumps({"mark": mark, **asdict(outcome)}) + "\n")
                out.flush()
                if done % 200 == 0 or done == len(missing):
                    rate = 60 * done / (time.monotonic() - begun)
                    print(f"{done:,} of {len(missing):,} searches, {rate:,.0f} a minute", file=sys.stderr, flush=True)
    return [found[task] for task in wanted]


def _read(kept: Path, mark: str) -> Iterator[Outcome]:
    if not kept.exists():
        return
    with kept.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line) if line.endswith("\n") else {}  # a line that was cut short by a kill
            if entry.pop("mark", None) == mark:
                yield Outcome(Task(**entry.pop("task")), tuple(entry.pop("regret")), tuple(entry.pop("spent")), **entry)
