"""What a confirmation makes of chunks: with what the GPU does put in by hand, as a GPU is needed for the rest."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from seats_by_hand import FakeSeat, still

from kernelgrove.engine.evaluator.sittings.sitting import Again
from kernelgrove.engine.evaluator.timing import baselines, confirming
from kernelgrove.engine.evaluator.timing.baselines import Eager
from kernelgrove.engine.evaluator.timing.confirming import confirm
from kernelgrove.engine.evaluator.timing.figures import Chunk, sealed
from kernelgrove.engine.evaluator.timing.seats import Overestimated
from kernelgrove.engine.evaluator.workers.handle import WorkerDied


def confirmed(candidate: FakeSeat, baseline: FakeSeat | None = None, anew: bool = False) -> confirming.Confirmed:
    found: Any = confirm(candidate, baseline, None, still, anew)  # type: ignore[arg-type]
    return found


def test_a_steady_kernel_takes_four_chunks_of_each_side():
    candidate, eager = FakeSeat(0.1, 0.1), FakeSeat(0.3, 0.3, trusted=True)
    found = confirmed(candidate, eager)
    assert found.figure.time_ms == pytest.approx(0.1) and found.figure.detail["clock"] == "events"
    assert found.ratio is not None and found.ratio.value == pytest.approx(3.0) and found.baseline_ms == 0.3
    assert candidate.made == 1 + 4 and eager.made == 4 and candidate.stall
    assert eager.rested, "it would hold gigabytes until the next candidate"
    assert candidate.emptied == 4  # each right before its chunk, while the candidate stands still


def test_streams_that_wait_for_each_other_behind_a_stall_are_timed_without():
    found = confirmed(FakeSeat(0.228, 0.280, released=0.230))
    assert found.figure.time_ms == pytest.approx(0.228) and found.figure.detail["released_by"] == "the host"


def test_a_claim_that_neither_clock_bears_out_stays_refuted():
    found = confirmed(FakeSeat(0.001, 0.228, released=0.235), FakeSeat(0.5, 0.5, trusted=True))
    assert found.figure.time_ms == pytest.approx(0.228) and found.figure.detail["clock"] == "judge"
    assert found.claim_ms == 0.001  # so that the ratio of claims can go down with it


class Unsteady(FakeSeat):
    """Of 0.07 ms a call, seen to take so much more, chunk by chunk: the first is not scored."""

    def __init__(self, *more_ms: float, slow: bool = False) -> None:
        super().__init__(0.07, 0.07)
        self.more_ms, self.slow = more_ms, slow

    def chunk(self, allclose: float | None, checked: int = 2) -> Chunk:
        self.true = dict.fromkeys(self.true, 0.07 + self.more_ms[min(self.made, len(self.more_ms) - 1)])
        return super().chunk(allclose, checked)


def test_an_honest_claim_that_four_chunks_do_not_bear_out_is_looked_at_in_more():
    """Five of 45 judgements of one kernel came to be scored 8 to 13 % above its claim."""
    unlucky = Unsteady(0.0, 0.008, 0.008, 0.008, 0.0, 0.001)
    found = confirmed(unlucky)
    assert found.figure.time_ms == pytest.approx(0.07) and found.figure.detail["clock"] == "events"
    assert unlucky.made == 1 + 8 and unlucky.stall and found.figure.detail["chunks"] == 8


def test_where_the_host_is_slow_for_a_while_it_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []
    monkeypatch.setattr(confirming.time, "sleep", waited.append)
    found = confirmed(Unsteady(*[0.008] * 9, 0.0, slow=True))
    assert found.figure.detail["clock"] == "events" and waited == [0.0, 0.5, 1.0]
    confirmed(Unsteady(*[0.008] * 9, 0.0))
    assert len(waited) == 3, "another host would not help"


def test_a_lie_is_refuted_by_all_chunks_together():
    liar = Unsteady(0.02)
    found = confirmed(liar)
    assert found.figure.detail["clock"] == "judge" and found.figure.time_ms == pytest.approx(0.09)
    assert liar.made == 1 + 16 + 1 + 4  # the last without a stalled stream


def test_a_batch_is_seen_when_calls_come_one_at_a_time():
    found = confirmed(FakeSeat(0.01, 0.01, alone=0.9))
    assert found.figure.detail["clock"] == "serial" and found.figure.time_ms == pytest.approx(0.9)


def test_whoever_claims_much_of_the_chunk_that_is_not_scored_is_not_believed_that_either():
    """Calls alone would be held to it, and none of them be cold, as one such call fits into L2."""
    boasting = FakeSeat(1000.0, 0.04)
    confirmed(boasting)
    assert boasting.asked == pytest.approx(0.04 + 0.2 / 64)
    honest = FakeSeat(0.04, 0.05)
    confirmed(honest)
    assert honest.asked == pytest.approx(0.04)
    released = FakeSeat(0.228, 0.280, released=0.230)
    confirmed(released)
    assert released.asked == pytest.approx(0.228)


def test_a_baselines_claims_are_enough():
    compiled, eager = FakeSeat(0.2, 9.9, trusted=True), FakeSeat(0.3, 0.3, trusted=True)
    found = confirmed(compiled, eager)
    assert found.ratio is not None and found.ratio.value == pytest.approx(1.5)
    assert compiled.stall and compiled.made == 1 + 4


def test_a_baseline_whose_worker_fails_is_nobodys_fault_and_is_made_again():
    """It would be charged to this candidate, and to whoever comes after it."""

    class Failing(FakeSeat):
        def chunk(self, allclose: float | None, checked: int = 2) -> Chunk:
            raise WorkerDied("killed by SIGKILL")

    eager = Failing(0.3, 0.3, trusted=True)
    with pytest.raises(Again, match="the baseline's worker failed: killed by SIGKILL"):
        confirmed(FakeSeat(0.1, 0.1), eager)
    with pytest.raises(Again, match="failed before"):  # who has it borrowed does not ask it
        confirmed(FakeSeat(0.1, 0.1), eager)
    made = object.__new__(Eager)
    made.seat = eager  # type: ignore[assignment]
    future: Future[Eager] = Future()
    assert not baselines.is_lost(future)
    future.set_result(made)
    assert baselines.is_lost(future)
    eager.lost = False
    assert not baselines.is_lost(future)


def test_calls_on_cold_inputs_decide_where_the_cache_gives_something_away():
    chunks = [Chunk((0.032,) * 64, 0.6 + 64 * 0.032, 0.6)] * 4
    warm = [Chunk((0.04,), 0.05, 0.01)] * 4
    cold = [Chunk((0.06,), 0.07, 0.01, cold=True)] * 4
    assert sealed(chunks, warm).detail["clock"] == "events", "40 µs are within reach of 32"
    figure = sealed(chunks, warm + cold)
    assert figure.detail["clock"] == "serial" and figure.time_ms == pytest.approx(0.06)
    assert sealed(chunks, warm + cold[:1]).detail["clock"] == "events", "one call tells nothing"


def test_one_slow_call_of_two_hides_no_other():
    """A quartile of two values is less than both."""
    chunks = [Chunk((0.45, 0.45), 0.6 + 0.9, 0.6)] * 4
    alone = [Chunk((1.0,), 1.0), Chunk((4.0,), 4.0)]
    figure = sealed(chunks, alone)
    assert figure.detail["clock"] == "serial" and figure.time_ms == pytest.approx(1.0)


def test_a_baseline_that_is_slowed_down_makes_nobody_faster():
    class Slowed(FakeSeat):
        def chunk(self, allclose: float | None, checked: int = 2) -> Chunk:
            self.claim = 0.3 if self.made == 0 else 0.9
            return super().chunk(allclose, checked)

    found = confirmed(FakeSeat(0.1, 0.1), Slowed(0.3, 0.3, trusted=True))
    assert found.ratio is not None and found.ratio.value == pytest.approx(3.3, abs=0.05)
    waiting = Slowed(0.3, 0.3, trusted=True)
    waiting.stall = False
    found = confirmed(FakeSeat(0.1, 0.1), waiting)
    assert found.ratio is not None and found.ratio.value == pytest.approx(4.5, abs=0.05)


def test_who_is_slow_until_chunks_are_made_gets_no_smaller_ones_either():
    class Spinning(FakeSeat):
        def chunk(self, allclose: float | None, checked: int = 2) -> Chunk:
            made = super().chunk(allclose, checked)
            return Chunk((4.0,) * 8, 0.6 + 8 * 4.0, 0.6) if self.made == 1 else made

    spinning = Spinning(0.04, 0.04)
    spinning.small_ms = 1.0
    with pytest.raises(Overestimated) as found:
        confirmed(spinning, anew=True)
    assert found.value.call_ms == pytest.approx(0.04) and spinning.made > 4


def test_who_sleeps_while_he_is_screened_gets_no_smaller_chunks():
    """Of few calls all inputs are in the L2."""
    slow = FakeSeat(0.4, 0.4)
    slow.small_ms = 1.0
    with pytest.raises(Overestimated) as found:
        confirmed(slow, anew=True)
    assert found.value.call_ms == pytest.approx(0.4)
    liar = FakeSeat(0.001, 50.0)
    liar.small_ms = 1.0
    assert confirmed(liar, anew=True).figure.time_ms == pytest.approx(50.0), "as many calls of his would take for ever"
    assert confirmed(slow).figure.time_ms == pytest.approx(0.4), "not for ever"
