"""Waiting until memory is fast: looks at it put in by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelgrove.engine.evaluator.timing import bandwidth
from kernelgrove.engine.evaluator.timing.bandwidth import Bandwidth


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_PAUSE_S", 0.0)


def looks(*found_ms: float) -> Iterator[float]:
    return iter(found_ms)


def test_it_waits_while_a_copy_takes_longer_than_ever_before():
    found = looks(0.066, 0.0745, 0.0747, 0.0745, 0.0665, 9.0)
    made = Bandwidth(lambda: next(found))
    assert made.settle() and made.settle()
    assert next(found) == 9.0


def test_what_copies_differ_by_is_waited_for_by_nobody():
    found = looks(0.0653, 0.0665, 0.0659, 0.0670, 9.0)
    made = Bandwidth(lambda: next(found))
    assert all(made.settle() for _ in range(4))
    assert next(found) == 9.0


def test_a_first_look_at_a_bad_moment_is_forgotten():
    found = looks(0.0745, 0.066, 0.0745, 0.066, 9.0)
    made = Bandwidth(lambda: next(found))
    assert all(made.settle() for _ in range(3))
    assert next(found) == 9.0


def test_memory_that_stays_slow_is_waited_for_once():
    ms = 0.066
    made = Bandwidth(lambda: ms)
    made.settle()
    ms = 0.080
    assert not made.settle(limit_s=0.0)
    assert made.settle(limit_s=0.0)
    ms = 0.066
    assert made.settle(limit_s=0.0)
    ms = 0.080
    assert not made.settle(limit_s=0.0), "what it can be is known again"
