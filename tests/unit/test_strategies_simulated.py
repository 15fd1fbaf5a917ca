"""The simulator of benchmarks/strategies: fair, repeatable, and within its budgets, for whoever takes part."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.strategies import contenders, runs, suite  # noqa: E402
from benchmarks.strategies.recorded import shipped  # noqa: E402
from benchmarks.strategies.runs import Task  # noqa: E402
from benchmarks.strategies.simulator import Limits  # noqa: E402

OURS = [*contenders.OURS, *contenders.BASELINES]


@pytest.mark.parametrize("name", OURS)
def test_a_search_keeps_its_budget_and_is_repeatable(name: str) -> None:
    land = runs.landscape("reduction", suite.DEVELOPMENT_SEEDS)
    limits = Limits(25)
    one, two = (contenders.contender(name).run(land, 1, limits) for _ in range(2))
    assert one == two
    assert 0 < len(one.held_ms) <= 25 and one.calls <= limits.calls
    assert sum(one.outcomes.values()) == len(one.held_ms) == len(one.usd)
    assert one.usd == sorted(one.usd)
    assert min(one.held_ms) >= land.optimum_ms, "nothing is faster than the best possible"


def test_an_outcome_is_kept_and_read_back(tmp_path: Path) -> None:
    tasks = [Task("zero_shot", "pointwise", suite.DEVELOPMENT_SEEDS + n, evaluations=10) for n in range(2)]
    kept = tmp_path / "kept.jsonl"
    first = runs.run(tasks, kept, "mark", 1)
    with kept.open("a") as out:
        out.write('{"mark": "mark", "task"')  # a line that a kill cut short
    another = Task("zero_shot", "pointwise", suite.DEVELOPMENT_SEEDS + 2, evaluations=10)
    assert runs.run([*tasks, another], kept, "mark", 1)[:2] == first
    assert len(list(runs._read(kept, "mark"))) == 3 and not list(runs._read(kept, "another mark"))
    assert all(o.regret[0] >= o.regret[-1] - 0.5 for o in first)


@pytest.mark.parametrize("grove", [path.stem for path in shipped()])
def test_a_recorded_grove_is_a_landscape(grove: str) -> None:
    land = runs.landscape(grove, 0)
    trace = contenders.contender("tree_of_thought").run(land, 1, Limits(40))
    assert trace.held_ms and trace.held_ms[-1] == pytest.approx(land.optimum_ms, rel=0.05), "it finds what is there"


def test_the_seeds_of_the_report_are_not_those_of_development() -> None:
    assert suite.DEVELOPMENT_SEEDS not in suite.REPORT_SEEDS and len(suite.REPORT_SEEDS) == 200
