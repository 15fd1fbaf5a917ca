"""Timed calls meet both states that a GPU is in by turns, launch after launch."""

from __future__ import annotations

import itertools

import pytest

from kernelgrove.engine.evaluator.inside.parity import Parity


def loops(launches_a_call: int, calls: int, many: int) -> list[list[int]]:
    """The state that each call of each loop begins in, when it changes with every launch."""
    launched = 0

    def launch() -> None:
        nonlocal launched
        launched += 1

    parity = Parity(launch)
    found = []
    for _ in range(many):
        parity.begin()
        states = []
        for _ in range(calls):
            parity.before_call()
            states.append(launched % 2)
            launched += launches_a_call
        found.append(states)
    return found


@pytest.mark.parametrize("calls", [2, 3, 94, 95, 96, 97])
@pytest.mark.parametrize("launches", [1, 2, 3, 4])
def test_half_of_a_loops_calls_meet_either_state(launches: int, calls: int):
    for states in loops(launches, calls, 4):
        assert abs(2 * sum(states) - calls) <= 2, states


@pytest.mark.parametrize("calls", [1, 2, 3, 94, 95, 96, 97])
@pytest.mark.parametrize("launches", [2, 4])
def test_a_call_meets_the_other_state_in_the_next_loop(launches: int, calls: int):
    found = loops(launches, calls, 4)
    for before, after in itertools.pairwise(found):
        assert [1 - state for state in before] == after
