"""Who has the GPU to himself: what is done where it is busy all the same, with the GPU put in by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from kernelgrove.engine.evaluator import cuda_bench, judging
from kernelgrove.engine.evaluator.sittings.sitting import EXPELLED, Again, Expelled, Restless
from kernelgrove.engine.evaluator.timing import exclusive
from kernelgrove.engine.evaluator.timing.baselines import Eager
from kernelgrove.engine.evaluator.timing.confirming import Confirmed
from kernelgrove.engine.evaluator.timing.exclusive import Exclusive
from kernelgrove.engine.evaluator.timing.figures import Figure, Ratio
from kernelgrove.engine.evaluator.turns.locks import Turns
from kernelgrove.model import EvaluationResult, Outcome, Stage


class Worker:
    def __init__(self) -> None:
        self.alive = True

    def stop(self) -> None:
        self.alive = False


class Nursery:
    def __init__(self, *workers: Worker) -> None:
        self.workers = workers

    @contextlib.contextmanager
    def frozen(self, keep: Collection[Worker] = ()) -> Iterator[bool]:
        yield True

    def expel(self, reason: str) -> bool:
        assert reason == EXPELLED
        for worker in self.workers:
            worker.alive = False
        return bool(self.workers)


def made_exclusive(
    monkeypatch: pytest.MonkeyPatch, busy: Any, *workers: Worker, settle: Callable[[], object] = lambda: True
) -> Exclusive:
    monkeypatch.setattr(exclusive, "wait_idle", lambda device, limit_s: True)
    made = Exclusive("cuda:0", Turns(), Nursery(*workers), lambda: None, settle)  # type: ignore[arg-type]
    monkeypatch.setattr(exclusive, "wait_idle", lambda device, limit_s: not busy())
    return made


def test_who_keeps_the_gpu_busy_himself_is_told(monkeypatch: pytest.MonkeyPatch):
    mine, other = Worker(), Worker()
    made = made_exclusive(monkeypatch, lambda: mine.alive, mine, other)
    with pytest.raises(Restless), made.alone(mine):  # type: ignore[arg-type]
        pass
    assert other.alive and not made.shared


@pytest.mark.parametrize("keep", [True, False])
def test_what_another_candidate_left_running_ends_all_of_them_and_no_check(monkeypatch: pytest.MonkeyPatch, keep: bool):
    """Its process stands still, its kernel does not. Taken for a stranger's, nothing would be looked at any more."""
    mine, other = Worker(), Worker()
    made = made_exclusive(monkeypatch, lambda: other.alive, mine, other)
    with pytest.raises(Expelled, match=EXPELLED), made.alone(*([mine] if keep else [])):  # type: ignore[list-item]
        pass
    assert not other.alive and not made.shared
    with made.alone(), made.still():
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_memory_is_fast_again_before_a_baseline_runs(monkeypatch: pytest.MonkeyPatch, shared: bool):
    """Where others use the GPU nobody would wait for them."""
    settled: list[int] = []
    made = made_exclusive(monkeypatch, lambda: False, settle=lambda: settled.append(1))
    made.shared = shared
    with made.still():
        assert not settled
    with made.quiet():
        assert settled == [1] * (not shared)


def test_where_no_candidate_lives_nobody_is_blamed(monkeypatch: pytest.MonkeyPatch):
    """A baseline is made while its first candidate is still being loaded."""
    looks = iter([True, False])
    made = made_exclusive(monkeypatch, lambda: next(looks))
    with pytest.raises(Again, match="for a while"), made.alone():
        pass
    assert not made.shared


def test_a_program_that_knows_nothing_of_turns_is_lived_with(monkeypatch: pytest.MonkeyPatch):
    mine = Worker()
    made = made_exclusive(monkeypatch, lambda: True, mine)
    with pytest.raises(Again, match="another process"), made.alone(mine):  # type: ignore[arg-type]
        pass
    assert made.shared
    with made.alone(mine):  # type: ignore[arg-type]
        pass


def test_improved_is_said_of_the_score_and_not_only_of_the_chunks_middles():
    """Chunks of which most claim little and one claims much have a middle that is not that of all calls."""
    base = Eager.__new__(Eager)
    base.seconds = {}
    figure = Figure(0.2, 0.2, {}, {})
    confirmed = Confirmed(figure, Ratio(2.0, (1.14, 10.0)), 0.2, 0.1)
    found = cuda_bench._figures(figure, confirmed, base, {}, {})
    assert found.baselines["eager"] == 0.1
    assert found.detail["speedup_interval"]["eager"] == [0.5, 10.0] and not found.detail["improved"]["eager"]


def test_who_was_ended_with_all_others_is_judged_again_though_nobody_was_judged_beside_him(
    monkeypatch: pytest.MonkeyPatch,
):
    """A baseline was being made alone meanwhile, say."""
    ended = EvaluationResult(Outcome.WORKER_DIED, Stage.TIME, f"it ended: killed by the evaluator: {EXPELLED}")
    found = iter([ended, EvaluationResult(Outcome.OK, Stage.TIME, "")])
    monkeypatch.setattr(judging, "_judge", lambda *_: next(found))
    assert judging.judge(None, None, None).outcome is Outcome.OK  # type: ignore[arg-type]
