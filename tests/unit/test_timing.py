"""Two clocks: an honest kernel keeps its own figure, one that understates is held to the judge's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kernelgrove.engine.evaluator.timing import screening
from kernelgrove.engine.evaluator.timing.figures import (
    Chunk,
    Round,
    bootstrap,
    calls_a_chunk,
    describe,
    figure,
    middle,
    ratio,
    repetitions,
    sealed,
)


def loops(claim: float, wall_per_call: float, count: int = 50) -> list[Round]:
    return [Round((claim,) * count, wall_per_call * count)] * 2


def test_honest_claim_stands():
    found = figure(loops(0.100, 0.170), around_ms=0.070)
    assert found.time_ms == pytest.approx(0.100) and found.detail["clock"] == "events"


def test_understated_claim_is_replaced_by_the_bound():
    found = figure(loops(0.001, 0.170), around_ms=0.070)
    assert found.time_ms > 0.085 and found.detail["clock"] == "judge"


def test_a_round_that_was_disturbed_does_not_make_a_liar():
    claims = (0.1,) * 45 + (2.0,) * 5
    disturbed = Round(claims, sum(claims) + 50 * 0.07)
    assert figure([disturbed, *loops(0.1, 0.17)], around_ms=0.07).detail["clock"] == "events"


def test_statistics_are_the_seeds():
    assert describe([1.0, 2.0, 6.0]) == {
        "mean": 3.0,
        "std": pytest.approx(2.6457513),
        "min": 1.0,
        "max": 6.0,
        "median": 2.0,
        "n": 3,
    }


def test_the_middle_is_deaf_to_slow_calls_and_does_not_jump_between_groups():
    fast, slow = [35.4] * 50, [36.1] * 50
    assert middle([*fast, *slow, 90.0]) == pytest.approx(35.75, abs=0.02)
    one_more, one_less = middle([*fast, 35.4, *slow]), middle([*fast, *slow, 36.1])
    assert 0 < one_less - one_more < 0.03 < 0.7
    assert middle([5.0]) == 5.0 and middle([4.0, 6.0]) == 5.0


def test_repetitions_fit_the_budget():
    assert repetitions(0.01, 0.07, 100, 2000.0) == 100
    assert repetitions(1000.0, 0.07, 100, 2000.0) == 10


def chunks(claim: float, true: float, calls: int = 64, count: int = 5) -> list[Chunk]:
    return [Chunk((claim,) * calls, 0.6 + calls * (true + 0.004), 0.6 + calls * 0.004)] * count


def test_an_honest_sealed_claim_stands():
    found = sealed(chunks(0.135, 0.136), chunks(0.135, 0.145, calls=1))
    assert found.time_ms == pytest.approx(0.135) and found.detail["clock"] == "events"


def test_a_claim_that_the_judges_clock_refutes_does_not():
    found = sealed(chunks(0.010, 0.135))
    assert found.time_ms > 0.128 and found.detail["clock"] == "judge"


def test_one_launch_that_serves_many_calls_is_held_to_one_call_at_a_time():
    found = sealed(chunks(0.010, 0.010), chunks(0.010, 0.500, calls=1))
    assert found.time_ms > 0.45 and found.detail["clock"] == "serial"


def test_a_claim_of_nothing_is_never_within_reach():
    """A delta is 15 % of the bound at most; and of a chunk so short that a change of context hides it, the clock
    vouches for nothing: a candidate that has its calls timed one at a time gains nothing by that."""
    found = sealed(chunks(0.0001, 0.01))
    assert found.detail["clock"] == "judge" and found.time_ms == pytest.approx(0.01)
    for wall_ms in (0.66, 0.6, 0.5):
        found = sealed([Chunk((0.0001,), wall_ms, 0.6)] * 5)
        assert found.detail["clock"] == "resolution" and found.time_ms == pytest.approx(0.2)


def test_skew_among_claims_is_slack_for_honest_kernels_alone():
    honest = tuple([0.1] * 56 + [0.13] * 8)
    chunk = Chunk(honest, 0.6 + sum(honest) + 64 * 0.004, 0.6 + 64 * 0.004)
    assert sealed([chunk] * 5).detail["clock"] == "events"
    liar = tuple([0.0001] * 52 + [10.0] * 12)
    assert sealed([Chunk(liar, 0.6 + 64 * 0.3, 0.6)] * 5).time_ms == pytest.approx(0.3)


def test_one_lucky_chunk_does_not_make_a_figure():
    lucky = [*chunks(0.010, 0.010, count=1), *chunks(0.010, 0.135, count=4)]
    assert sealed(lucky).time_ms > 0.128


def test_paired_chunks_cancel_drift():
    """Both slow down together by half: the ratio does not move, nor its interval."""
    pairs = [(Round((0.4 * d,) * 9, 1.0), Round((0.1 * d,) * 9, 1.0)) for d in (1.0, 1.1, 1.3, 1.5)]
    found = ratio(pairs)
    assert found.value == pytest.approx(4.0) and found.half_width < 1e-9


def test_a_noisy_ratio_has_a_wide_interval():
    pairs = [(Round((b,), 1.0), Round((0.1,), 1.0)) for b in (0.09, 0.11, 0.10, 0.12, 0.08)]
    low, high = ratio(pairs).interval
    assert low < 1 < high


def test_bootstrap_is_repeatable_and_holds_the_median():
    values = [1.0, 1.02, 0.98, 1.01, 0.99]
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values) and low <= 1.0 <= high and low >= 0.98 and high <= 1.02


def test_calls_a_chunk_fit_memory_queue_and_aim():
    assert calls_a_chunk(0.1, 30.0, 1 << 20, 1 << 40, 1000) == 300
    assert calls_a_chunk(0.1, 30.0, 1 << 30, 12 << 30, 1000) == 11
    assert calls_a_chunk(0.1, 30.0, 1 << 20, 1 << 40, 100) == 100
    assert calls_a_chunk(500.0, 30.0, 1 << 40, 1, 1) == 1


@pytest.mark.parametrize("trusted", [False, True])
def test_what_a_baseline_computes_is_not_held_against_itself(monkeypatch: pytest.MonkeyPatch, trusted: bool):
    """A reference that changes its inputs had no eager baseline: its own third answer was taken for wrong."""
    seen = []

    def run(self: object, number: int, count: int, check: bool = False) -> Round:
        seen.append(check)
        return Round((0.1,) * count, 0.1 * count)

    monkeypatch.setattr(screening._Loop, "run", run)
    sitting: Any = SimpleNamespace(trusted=trusted)
    screening.screen(sitting, 1 << 20, 0.0, 40, None, lambda: None)
    assert seen == [False] * 3 + [not trusted] * 4


def test_memory_is_fast_again_before_each_screened_round(monkeypatch: pytest.MonkeyPatch):
    """A large case makes the judge give memory back, which the driver then clears beside whatever runs."""
    did: list[str] = []

    class Worker:
        wall_s = 0.001

        def ask(self, verb: str, *_: object) -> dict[str, object]:
            did.append(verb)
            return {"claims": [0.1] * 10}

    sitting: Any = SimpleNamespace(
        trusted=True,
        timeout_s=1.0,
        worker=Worker(),
        current=lambda number: SimpleNamespace(packed=b""),
        place=lambda case: did.append("place") or ([], []),
        wanted=lambda case, outputs: [],
    )
    monkeypatch.setattr(screening, "_WARM_CALLS", 10)
    screening.screen(sitting, 1 << 20, 0.0, 40, None, lambda: did.append("settle"))
    assert did == ["place", "arm", "settle", "go", "deliver"] * 7
