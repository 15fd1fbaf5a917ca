"""Creating a search and going on with one: what the command line calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_search import DEVICE, PROBLEM, FakeEvaluator, FakeProposer

from kernelgrove.config import SearchConfig
from kernelgrove.engine import search
from kernelgrove.engine.events import Event, Stopped
from kernelgrove.errors import NotFound, ProblemError, UsageError
from kernelgrove.model import Basis, Device, Problem, SearchStatus, StoppedBy
from kernelgrove.storage.store import SqliteStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as opened:
        yield opened


def config(**flags: Any) -> SearchConfig:
    small = {"rounds": 2, "width": 2, "depth": 1, "seed": 3, **flags}
    return SearchConfig.load(small, alone=True)


def begin(store: SqliteStore, **flags: Any) -> int:
    return search.start(config(**flags), PROBLEM, store, FakeEvaluator(), [FakeProposer()])


def go_on(store: SqliteStore, id_: int, evaluator: FakeEvaluator | None = None, **overrides: Any) -> StoppedBy | None:
    return search.resume(store, id_, lambda spec: evaluator or FakeEvaluator(), overrides, [FakeProposer()])


def test_all_that_it_was_started_with_is_stored(store: SqliteStore) -> None:
    id_ = begin(store, budget_evals=3, temperature=0.5, name="first", precision="tf32", timeout="2m")
    spec = store.search(id_).spec
    assert (spec.strategy, spec.strategy_options) == ("tree_of_thought", {"rounds": 2, "width": [2], "depth": [1]})
    assert (spec.name, spec.seed, spec.precision, spec.models) == ("first", 3, "tf32", ("rules",))
    assert spec.options["budget_evals"] == 3 and spec.options["timeout_s"] == 120 and spec.options["temperature"] == 0.5
    assert spec.device == DEVICE


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"strategy": "brunch"}, "did you mean 'branch'"),
        ({"options": {"depht": 2}}, "has no option 'depht'"),
        ({"model": "nobody:gpt"}, "nobody"),
    ],
)
def test_bad_options_leave_no_search_behind(store: SqliteStore, flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        search.start(config(**flags), PROBLEM, store, FakeEvaluator())
    with pytest.raises(NotFound):
        store.latest_search()


def test_a_problem_at_fault_leaves_no_search_behind(store: SqliteStore) -> None:
    class Refuses(FakeEvaluator):
        def prepare(self, problem: Problem, size: str | None = None) -> Any:
            raise ProblemError("the reference gives NaN")

    with pytest.raises(ProblemError):
        search.create(config(), PROBLEM, store, Refuses())
    with pytest.raises(NotFound):
        store.latest_search()


def test_a_finished_search_is_left_alone_and_needs_no_evaluator(store: SqliteStore) -> None:
    id_ = begin(store)
    before = store.search(id_)

    def never(spec: Any) -> Any:
        raise AssertionError("an evaluator was opened")

    assert search.resume(store, id_, never) is StoppedBy.STRATEGY
    assert search.resume(store, id_, never, {"budget_evals": 99}) is StoppedBy.STRATEGY
    assert store.search(id_) == before


def test_a_raised_budget_goes_on_and_is_kept(store: SqliteStore) -> None:
    id_ = begin(store, budget_evals=2)
    assert store.search(id_).stopped_by is StoppedBy.EVALUATIONS
    assert go_on(store, id_) is StoppedBy.EVALUATIONS
    assert go_on(store, id_, budget_time="1h") is StoppedBy.EVALUATIONS
    evaluator = FakeEvaluator()
    assert go_on(store, id_, evaluator, budget_evals=3) is StoppedBy.EVALUATIONS
    assert evaluator.calls == 1 and evaluator.closed
    assert store.search(id_).spec.options["budget_evals"] == 3
    assert go_on(store, id_, budget_evals=99) is StoppedBy.STRATEGY
    assert store.search(id_).status is SearchStatus.FINISHED


def test_more_rounds_go_on_with_a_search_that_its_strategy_ended(store: SqliteStore) -> None:
    id_ = begin(store)
    nodes = len(store.tree(id_).nodes)
    assert go_on(store, id_, rounds=3) is StoppedBy.STRATEGY
    assert len(store.tree(id_).nodes) == nodes + 2, "one more round of two ideas: the width it was started with"
    assert go_on(store, id_, rounds=3) is StoppedBy.STRATEGY
    assert len(store.tree(id_).nodes) == nodes + 2


@pytest.mark.parametrize("overrides", [{"precision": "strict"}, {"seed": 4}, {"samples": 7}, {"tolerance": 1e-4}])
def test_what_figures_depend_on_cannot_change(store: SqliteStore, overrides: dict[str, Any]) -> None:
    id_ = begin(store, budget_evals=1)
    with pytest.raises(UsageError, match="cannot change once it has started"):
        go_on(store, id_, **overrides)


def test_another_device_is_refused(store: SqliteStore) -> None:
    id_ = begin(store, budget_evals=1)
    other = FakeEvaluator(device=Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED))
    with pytest.raises(UsageError, match="ran on cpu->H100 for H100, and this is NVIDIA H200 for H200"):
        go_on(store, id_, other, budget_evals=9)
    assert other.closed
    assert store.search(id_).spec.options["budget_evals"] == 1


def test_the_listener_hears_how_it_ended(store: SqliteStore) -> None:
    heard: list[Event] = []
    search.start(config(), PROBLEM, store, FakeEvaluator(), [FakeProposer()], heard.append)
    assert isinstance(heard[-1], Stopped) and heard[-1].by is StoppedBy.STRATEGY
