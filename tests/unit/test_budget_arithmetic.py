"""Budgets: pure arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgrove.engine.budget import Budget, Spent
from kernelgrove.model import StoppedBy


@given(cap=st.integers(1, 50), used=st.integers(0, 60), pending=st.integers(0, 60), wanted=st.integers(-2, 60))
def test_planned_evaluations_never_pass_the_cap(cap: int, used: int, pending: int, wanted: int) -> None:
    slots = Budget(evaluations=cap).slots_left(Spent(evaluations=used, pending=pending), wanted)
    assert 0 <= slots <= max(0, wanted)
    assert slots == 0 or used + pending + slots <= cap


@pytest.mark.parametrize(
    ("budget", "spent", "by"),
    [
        (Budget(evaluations=3), Spent(evaluations=3), StoppedBy.EVALUATIONS),
        (Budget(evaluations=3), Spent(evaluations=2, pending=1), None),
        (Budget(seconds=10), Spent(seconds=10.1), StoppedBy.TIME),
        (Budget(dollars=1), Spent(dollars=1.0), StoppedBy.DOLLARS),
        (Budget(dollars=1), Spent(dollars=0.9, reserved_dollars=0.2), None),
        (Budget(tokens=100), Spent(tokens=120), StoppedBy.TOKENS),
        (Budget(patience=5), Spent(stale=5), StoppedBy.PATIENCE),
        (Budget(), Spent(10**9, 10**9, 1e9, 1e9, 10**9, stale=10**9), None),
    ],
)
def test_which_cap_is_reached(budget: Budget, spent: Spent, by: StoppedBy | None) -> None:
    assert budget.exhausted(spent) is by


def test_reservations_hold_new_calls_back_without_ending_the_search() -> None:
    for budget, spent in (
        (Budget(dollars=1), Spent(dollars=0.9, reserved_dollars=0.1)),
        (Budget(tokens=10), Spent(tokens=5, reserved_tokens=5)),
    ):
        assert budget.slots_left(spent, 3) == 0
        assert budget.exhausted(spent) is None
    assert Budget(dollars=1).slots_left(Spent(dollars=0.5), 3) == 3


def test_only_the_cap_that_stopped_a_search_can_start_it_again() -> None:
    old = Budget(evaluations=10, seconds=60)
    assert Budget(evaluations=11, seconds=60).raised_over(old, StoppedBy.EVALUATIONS)
    assert not Budget(evaluations=10, seconds=90).raised_over(old, StoppedBy.EVALUATIONS)
    assert not Budget(evaluations=9).raised_over(old, StoppedBy.EVALUATIONS)
    assert Budget().raised_over(old, StoppedBy.TIME)
    assert not Budget().raised_over(old, StoppedBy.STRATEGY)


def test_stored_options_become_a_budget() -> None:
    options = {"budget_evals": 4, "budget_time": 1.5, "budget_usd": 2.0, "budget_tokens": 9, "patience": 3, "trials": 5}
    assert Budget.of(options) == Budget(4, 1.5, 2.0, 9, 3)
    assert Budget.of({}) == Budget()
