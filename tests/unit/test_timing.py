"""Two clocks: an honest kernel keeps its own figure, one that understates is held to the judge's."""

from __future__ import annotations

import threading
import time

import pytest

from kernelgrove.engine.evaluator.locks import Turns
from kernelgrove.engine.evaluator.timing import Round, describe, figure, repetitions


def loops(claim: float, wall_per_call: float, count: int = 50) -> list[Round]:
    return [Round((claim,) * count, wall_per_call * count)] * 2


def test_honest_claim_stands():
    found = figure(loops(0.100, 0.170), around_ms=0.070)
    assert found.time_ms == pytest.approx(0.100) and found.detail["clock"] == "events"


def test_understated_claim_is_replaced_by_the_bound():
    found = figure(loops(0.001, 0.170), around_ms=0.070)
    assert found.time_ms > 0.085 and found.detail["clock"] == "judge"


def test_a_few_slow_calls_do_not_make_a_liar():
    claims = (0.1,) * 45 + (2.0,) * 5
    timed = Round(claims, sum(claims) + 50 * 0.07)
    assert figure([timed, timed], around_ms=0.07).detail["clock"] == "events"


def test_statistics_are_the_seeds():
    assert describe([1.0, 2.0, 6.0]) == {
        "mean": 3.0,
        "std": pytest.approx(2.6457513),
        "min": 1.0,
        "max": 6.0,
        "median": 2.0,
        "n": 3,
    }


def test_repetitions_fit_the_budget():
    assert repetitions(0.01, 0.07, 100, 2000.0) == 100
    assert repetitions(1000.0, 0.07, 100, 2000.0) == 10


def test_turns_are_fair_and_exclusive():
    turns, log, inside = Turns(), [], threading.Semaphore(0)

    def reader(name: str) -> None:
        with turns.shared():
            log.append(name)
            inside.release()
            time.sleep(0.05)

    def writer() -> None:
        with turns.alone():
            log.append("alone")
            before = len(log)
            time.sleep(0.05)
            assert len(log) == before, "somebody came in while one was alone"

    first = threading.Thread(target=reader, args=("a",))
    first.start()
    inside.acquire()
    alone = threading.Thread(target=writer)
    alone.start()
    time.sleep(0.01)
    late = threading.Thread(target=reader, args=("b",))
    late.start()
    for thread in (first, alone, late):
        thread.join(5)
    assert log == ["a", "alone", "b"], "a reader that came later went before the waiting writer"
