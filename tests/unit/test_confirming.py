"""What a confirmation makes of chunks: with what the GPU does put in by hand, as a GPU is needed for the rest."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator.checking.correctness import Verdict
from kernelgrove.engine.evaluator.sittings.sitting import Again, Wrong
from kernelgrove.engine.evaluator.timing import baselines, confirming, seats
from kernelgrove.engine.evaluator.timing import empties as room
from kernelgrove.engine.evaluator.timing.baselines import Eager
from kernelgrove.engine.evaluator.timing.confirming import confirm
from kernelgrove.engine.evaluator.timing.empties import Empties
from kernelgrove.engine.evaluator.timing.figures import Chunk, sealed
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.sealing import Stuck
from kernelgrove.engine.evaluator.timing.seats import NoRoom, Overestimated, Seat
from kernelgrove.engine.evaluator.wire.arena import Spec
from kernelgrove.engine.evaluator.wire.protocol import ProtocolBreak
from kernelgrove.engine.evaluator.workers.handle import WorkerDied, WorkerFailed


@contextlib.contextmanager
def still() -> Iterator[None]:
    yield


class FakeSeat:
    """Chunks of 64 calls: *claim* is what the worker says, *true* what the judge's clock sees, behind a stalled stream
    and released; *alone*: what one call a release takes."""

    def __init__(
        self,
        claim: float,
        true: float,
        released: float | None = None,
        alone: float | None = None,
        trusted: bool = False,
    ) -> None:
        self.sitting = SimpleNamespace(trusted=trusted)
        self.claim, self.alone, self.slack_ms = claim, alone, 0.02 if released is None else 0.1
        self.true = {True: true, False: released if released is not None else true}
        self.stall, self.made, self.emptied, self.rested, self.lost = True, 0, 0, False, False
        self.least_ms = math.inf
        self.small_ms = 0.0  # what a call takes at most of which chunks should be larger

    def chunk(self, allclose: float | None, checked: int = 2) -> Chunk:
        self.made += 1
        return Chunk((self.claim,) * 64, 0.6 + 64 * self.true[self.stall], 0.6)

    def serial(self, allclose: float | None, claim_ms: float) -> list[Chunk]:
        self.asked = claim_ms
        alone = self.true[self.stall] if self.alone is None else self.alone
        return [Chunk((self.claim,), 0.02 + alone, 0.02, slack_ms=self.slack_ms)] * 8

    def measure_empty(self) -> None:
        self.emptied += 1

    def is_too_small(self, claim_ms: float) -> bool:
        return claim_ms <= self.small_ms

    def rest(self) -> None:
        self.rested = True

    def release(self, ahead: bool = False) -> None:
        self.stall = False


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


def seat(
    monkeypatch: pytest.MonkeyPatch, estimate_ms: float, room: int, fits: int, l2: int = 1 << 20
) -> tuple[Seat, list[tuple[int, bool]]]:
    """A seat whose stream takes *fits* calls before it blocks; and what chunks it has tried."""
    tried: list[tuple[int, bool]] = []

    class FakeRound:
        def __init__(
            self,
            sealed: object,
            sitting: object,
            calls: int,
            checked: int,
            *_: object,
            singly: bool = False,
            rehearsed: bool = False,
        ) -> None:
            self.calls, self.checked, self.alone = calls, checked, singly
            assert singly or rehearsed is not made.stall

        def together(self, stall: bool, empty_ms: float) -> Chunk:
            tried.append((self.calls, stall))
            if stall and self.calls > fits:
                raise Stuck
            return Chunk((estimate_ms,) * self.calls, estimate_ms * self.calls + empty_ms, empty_ms)

        def singly(self, cold: list[bool], stall: bool, empty_ms: dict[bool, float]) -> list[Chunk]:
            assert self.checked == self.calls, "it would pay to leave out those that decide"
            assert self.alone, "it would pay to predict the next call's inputs"
            tried.extend([(1, stall)] * self.calls)
            made._sealed.turnstile.waited = fits < 1
            return [Chunk((estimate_ms,), estimate_ms + empty_ms[each], empty_ms[each], cold=each) for each in cold]

    monkeypatch.setattr(seats, "Round", FakeRound)
    monkeypatch.setattr(Seat, "_empty_chunk", lambda self, calls: 0.6)
    monkeypatch.setattr(Seat, "_nothing", lambda self: (None, None))
    made = object.__new__(Seat)
    made.sitting = SimpleNamespace(trusted=False, one_queue=True)  # type: ignore[assignment]
    made.case, made.stall, made.calls, made._room = None, True, room, room  # type: ignore[assignment]
    made._queued, made._ahead = room, False
    empties: Any = SimpleNamespace(
        still=still,
        alone=lambda *_, waits: dict.fromkeys((False, True), 0.05 if waits else 0.01),
        believed=lambda ms, *_: ms,
        looks=lambda key: 1,
    )
    made._empties, made._estimate_ms, made._timeout_s, made._alone = empties, estimate_ms, 1.0, 8
    layout = SimpleNamespace(stride=512, size=lambda calls: 512 * calls)
    made._few, made._ground = 8, SimpleNamespace(slots=SimpleNamespace(layout=layout))  # type: ignore[assignment]
    made._sealed = SimpleNamespace(turnstile=SimpleNamespace(waited=False))  # type: ignore[assignment]
    made._stuck, made._kept, made._idle, made._empty, made._hasty = 0, None, None, None, 0
    made._how_it_lies, made._cold_too, made._singles, made.device = "", False, 0, 0
    made._bounds, made._queue = (30.0, 512, 1 << 33, 256), 256
    monkeypatch.setattr(seats, "l2_bytes", lambda _: l2)
    made.pending = Pending(Held(1 << 30))
    return made, tried


def test_a_seat_has_room_for_more_calls_than_can_be_queued(monkeypatch: pytest.MonkeyPatch):
    """Its arena is for what is launched without a stalled stream, which no queue bounds."""
    rooms: list[int] = []

    class FakeGround:
        slots = SimpleNamespace(prime=lambda inputs, calls: rooms.append(calls))

        def __init__(self, case: object, calls: int, device: int, *arena: object) -> None:
            rooms.append(calls)

    monkeypatch.setattr(seats, "Ground", FakeGround)
    monkeypatch.setattr(seats, "Sealed", lambda *_: None)
    monkeypatch.setattr(seats, "trim", lambda _: None)
    x = torch.zeros(1024, 256)
    output = SimpleNamespace(path="", spec=Spec.of(x))
    sitting = SimpleNamespace(
        worker=object(),
        trusted=False,
        launches=100,
        bench=SimpleNamespace(device="cuda:1"),
        current=lambda _: SimpleNamespace(masters=[x], expected=[output]),
        reference=SimpleNamespace(fresh_inputs=list),
    )

    def made(estimate_ms: float, memory: int, besides: int = 0) -> Seat:
        empties = SimpleNamespace(still=still, ground=FakeGround, kept=kept[0])
        return Seat(sitting, empties, Pending(held), estimate_ms, memory, 1.0, besides)  # type: ignore[arg-type]

    stride, plenty, kept, held = 1 << 21, 1 << 33, [0], Held(0)
    short = made(0.1, plenty)
    assert rooms == [256, 256, 256] and short.device == 1
    assert short.calls == short._queued == 1600 // (2 * 103 + 1)
    short.release()
    assert short.calls == 256 and not short.stall
    assert made(0.3, plenty)._room == 100, "as much as there is to do"
    assert made(10.0, plenty).calls == 3
    assert made(0.1, plenty)._alone == 7 and made(50.0, plenty)._few == 5
    little = made(0.1, (3 * 11 + 10) * stride)
    assert little._room == 10, "as much as there is room for: thrice, and for what the judge does with a few"
    assert little._alone == 3 and little._few == 8, "the judge has copies of them"
    sitting.trusted = True
    assert made(0.1, (3 * 11 + 10) * stride)._room == 15, "nothing is subtracted from a baseline"
    sitting.trusted = False
    assert made(0.1, (3 * 11 + 30) * stride, 20 * stride)._room == 10, "and for what is needed besides"
    assert made(0.1, 11 * stride, 20 * stride)._room == 1, "which does not keep anybody from being timed"
    with pytest.raises(NoRoom):
        made(0.1, 9 * stride)
    kept[0] = 12 * stride
    assert made(0.1, (3 * 11 + 10 - 12) * stride)._room == 8, (
        "the empty worker's ground has some of it, but for one part"
    )
    kept[0], held.most = 0, 8 * stride
    assert made(0.1, (3 * 11 + 10 + 8) * stride)._room == 10, "what waits to be compared"
    held.most = 1 << 40
    assert made(0.1, (3 * 11 + 10 + 40) * stride)._room == 10, "no candidate has more than so many"
    held.most = 0
    assert made(0.1, plenty).short is False and made(0.1, 11 * stride).short is True
    words = [SimpleNamespace(path=str(number), spec=None, value="a" * 90) for number in range(8)]
    sitting.current = lambda _: SimpleNamespace(masters=[x], expected=[output, *words])
    assert made(0.1, plenty)._room == 40_000 // (8 * 240), "a message has room for no more"
    words[:] = [SimpleNamespace(path=str(number), spec=None, value=0.5) for number in range(8)]
    assert made(0.1, plenty)._room == 40_000 // (8 * (len('["float", "0.5"]') + 16))


def test_fewer_calls_are_tried_where_the_queue_is_full(monkeypatch: pytest.MonkeyPatch):
    made, tried = seat(monkeypatch, 0.2, room=128, fits=20)
    assert len(made.chunk(None).claims) == 16 and made.stall
    assert tried == [(128, True), (16, True)]


def test_a_forward_that_waits_for_its_stream_is_timed_with_its_host_in_whole_chunks(monkeypatch: pytest.MonkeyPatch):
    """Not one call at a time: the clock could tell nothing of that."""
    made, tried = seat(monkeypatch, 0.2, room=128, fits=0)
    assert len(made.chunk(None).claims) == 128 and not made.stall
    assert tried == [(128, True), (16, True), (128, False)]


def test_a_batch_that_pretends_to_wait_hides_neither_in_a_larger_chunk_nor_behind_the_host(
    monkeypatch: pytest.MonkeyPatch,
):
    """The clock cannot tell one launch for 256 calls of 15 µs from nothing, where the host takes 10 µs for each."""
    made, tried = seat(monkeypatch, 0.001, room=256, fits=0)
    made.calls = made._queued = 14
    monkeypatch.setattr(Seat, "_empty_chunk", lambda self, calls: 0.6 + 0.010 * calls)
    chunk = made.chunk(None)
    assert tried[-1] == (256, False) and chunk.bound_ms == pytest.approx(0.001)
    figure = sealed([chunk] * 4)
    assert figure.time_ms == pytest.approx(0.2 / 14) and figure.detail["clock"] == "resolution"
    made._queued = 256
    assert sealed([made.chunk(None)] * 4).time_ms == pytest.approx(0.010 + 0.6 / 256)
    made.release(ahead=True)
    assert sealed([made.chunk(None)] * 4).time_ms == pytest.approx(0.001)


def test_chunks_too_short_to_tell_anything_are_not_tried(monkeypatch: pytest.MonkeyPatch):
    made, tried = seat(monkeypatch, 0.01, room=128, fits=20)
    assert len(made.chunk(None).claims) == 128 and tried == [(128, True), (128, False)]


def test_a_forward_that_waits_only_when_called_alone_is_released_then(monkeypatch: pytest.MonkeyPatch):
    """And is compared with an empty worker that waits as well."""
    made, tried = seat(monkeypatch, 0.2, room=128, fits=0)
    found = made.serial(None, 0.2)
    assert len(found) == 8 and not made.stall and {chunk.empty_ms for chunk in found} == {0.05}
    assert tried == [(1, True)] * 16 + [(1, False)] * 8, "it may have been the host that was slow once"


def test_serial_calls_go_on_where_one_is_late(monkeypatch: pytest.MonkeyPatch):
    made, _ = seat(monkeypatch, 0.9, room=128, fits=128)
    assert len(made.serial(None, 0.9)) == 8
    assert len(made.serial(None, 0.1)) == 24


def test_a_moment_in_which_calls_take_longer_does_not_refute_a_claim(monkeypatch: pytest.MonkeyPatch):
    made, tried = seat(monkeypatch, 0.2, room=128, fits=128)

    def singly(self: object, cold: list[bool], stall: bool, empty_ms: dict[bool, float]) -> list[Chunk]:
        slow = 0.0 if tried else 0.3
        tried.extend([(1, stall)] * 8)
        return [Chunk((0.2,), 0.2 + slow + empty_ms[False], empty_ms[False])] * 8

    monkeypatch.setattr(seats.Round, "singly", singly)
    found = made.serial(None, 0.2)
    assert len(found) == 16 and sum(chunk.bound_ms > 0.4 for chunk in found) == 8
    chunks = [Chunk((0.2,) * 64, 0.6 + 64 * 0.2, 0.6)] * 4
    assert sealed(chunks, found).detail["clock"] == "events"
    assert sealed(chunks, found[:8]).detail["clock"] == "serial"


def test_comparisons_wait_until_they_are_settled_but_only_as_many_as_there_is_room_for():
    held = Held(1 << 30)
    pending, compared = Pending(held), []
    for number in range(3):
        pending.add(lambda number=number: compared.append(number), size=1 << 29)
    assert compared == [2], "what there is no room for is compared at once"
    other = Pending(held)
    other.add(lambda: compared.append(9), size=1 << 29)
    assert compared == [2, 9], "nor beside others'"
    pending.settle()
    pending.settle()
    assert compared == [2, 9, 0, 1]
    other.add(lambda: compared.append(8), size=1 << 30)
    assert compared == [2, 9, 0, 1], "there is room again"
    other.drop()
    other.settle()
    assert compared == [2, 9, 0, 1], "what was timed before memory ran out counts for nothing"
    other.add(lambda: compared.append(7), size=1 << 30)
    del other
    gc.collect()
    assert held.take(1 << 30), "and where nobody is compared any more"


def test_a_wrong_timed_call_is_told_when_comparisons_are_settled():
    def wrong() -> None:
        raise Wrong(Verdict(0.1, "in a timed call: wrong"))

    pending = Pending(Held(1 << 30))
    pending.add(wrong, size=8)
    with pytest.raises(Wrong):
        pending.settle()


def test_an_empty_worker_that_is_stuck_is_nobodys_fault():
    def stuck(*_: object) -> float:
        raise Stuck

    closed: list[bool] = []
    empties = Empties(lambda: SimpleNamespace(close=lambda: closed.append(True)), still)  # type: ignore[arg-type]
    empties.start()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Again, match="it was stuck"):
        patch.setattr(room, "empty_chunk", stuck)
        empties.chunk(None, None, 4, True)  # type: ignore[arg-type]
    assert closed == [True]


def test_no_more_is_subtracted_than_a_little_over_the_least_that_was_seen():
    """A stopped candidate may have work on the GPU that slows the empty worker down."""
    empties = Empties(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert empties.believed(0.6, ("", 64, True, False), 0.2) == 0.6
    assert empties.believed(9.0, ("", 64, True, False), 0.2) == pytest.approx(0.8)
    assert empties.believed(0.5, ("", 64, True, False), 0.2) == 0.5
    assert empties.believed(0.9, ("", 64, True, False), 0.2) == pytest.approx(0.7)
    assert empties.believed(9.0, ("", 64, False, False), 0.2) == 9.0


def test_calls_on_cold_inputs_decide_where_the_cache_gives_something_away():
    chunks = [Chunk((0.032,) * 64, 0.6 + 64 * 0.032, 0.6)] * 4
    warm = [Chunk((0.04,), 0.05, 0.01)] * 4
    cold = [Chunk((0.06,), 0.07, 0.01, cold=True)] * 4
    assert sealed(chunks, warm).detail["clock"] == "events", "40 µs are within reach of 32"
    figure = sealed(chunks, warm + cold)
    assert figure.detail["clock"] == "serial" and figure.time_ms == pytest.approx(0.06)
    assert sealed(chunks, warm + cold[:1]).detail["clock"] == "events", "one call tells nothing"


def test_calls_in_rounds_of_one_are_cold_in_turn_too(monkeypatch: pytest.MonkeyPatch):
    made, _ = seat(monkeypatch, 0.2, room=128, fits=128, l2=1 << 16)
    made._alone = 1
    assert [chunk.cold for chunk in made.serial(None, 0.2)] == [False, False, True, True] * 2


def test_of_a_chunk_that_fits_into_the_l2_no_call_is_cold(monkeypatch: pytest.MonkeyPatch):
    made, _ = seat(monkeypatch, 0.2, room=128, fits=128, l2=100_000)
    assert not any(chunk.cold for chunk in made.serial(None, 0.2))
    assert not any(chunk.cold for chunk in made.serial(None, 0.3))
    assert any(chunk.cold for chunk in made.serial(None, 0.1)), "had it not seemed to be slow, it would not fit"
    made._bounds = (30.0, 512, 512 * 8, 256)
    assert any(chunk.cold for chunk in made.serial(None, 0.1)), "had it left more memory, it would not fit"


def test_one_slow_call_of_two_hides_no_other():
    """A quartile of two values is less than both."""
    chunks = [Chunk((0.45, 0.45), 0.6 + 0.9, 0.6)] * 4
    alone = [Chunk((1.0,), 1.0), Chunk((4.0,), 4.0)]
    figure = sealed(chunks, alone)
    assert figure.detail["clock"] == "serial" and figure.time_ms == pytest.approx(1.0)


def test_what_is_believed_of_an_empty_call_grows_with_it():
    empties = Empties(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert empties.believed(2.0, ("", 0, True, False), 0.02) == 2.0
    assert empties.believed(9.0, ("", 0, True, False), 0.02) == pytest.approx(2.06)
    assert empties.believed(9.0, ("other", 0, True, False), 0.02) == 9.0


def test_of_an_empty_chunk_no_number_of_calls_is_believed_alone():
    """How many there are hangs on what the candidate seemed to take: each would be the first with his."""
    empties = Empties(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert empties.looks(("", 100, True, False)) == 3
    assert empties.believed(1.0, ("", 100, True, False), 0.2) == 1.0
    assert empties.looks(("", 90, True, False)) == 1 and empties.looks(("", 90, False, False)) == 3
    assert empties.believed(5.0, ("", 90, True, False), 0.2) == pytest.approx(1.2), "fewer calls take no longer"
    assert empties.believed(9.0, ("", 200, True, False), 0.2) == pytest.approx(3.2), (
        "and twice as many not much more than twice"
    )
    assert empties.believed(0.8, ("", 150, True, False), 0.2) == 0.8
    assert empties.believed(9.0, ("", 100, True, False), 0.2) == pytest.approx(1.0), "what more of them took"
    assert empties.looks(("", 0, True, False)) == 3 and empties.believed(0.02, ("", 0, True, False), 0.02) == 0.02
    assert empties.believed(0.9, ("", 100, True, False), 0.2) == 0.9, "calls alone are none of a chunk"
    assert empties.believed(0.9, ("", 0, True, False), 0.02) == pytest.approx(0.04)


def test_empty_chunks_and_calls_alone_are_looked_at_as_often_as_is_needed(monkeypatch: pytest.MonkeyPatch):
    real = Seat._empty_chunk
    made, _ = seat(monkeypatch, 0.2, room=128, fits=128, l2=1024)
    monkeypatch.setattr(Seat, "_empty_chunk", real)
    ran: list[object] = []

    class Slowing(Empties):
        def chunk(self, idle: object, filled: object, calls: int, stall: bool) -> float:  # type: ignore[override]
            ran.append(calls)
            return 0.6 + (0.5 if len(ran) % 3 else 0.0)

        def alone(self, idle: object, filled: object, cold: list[bool], waits: bool) -> dict[bool, float]:  # type: ignore[override]
            ran.append("alone")
            return {kind: 0.01 + (0.5 if len(ran) % 3 else 0.0) for kind in set(cold)}

    made._empties = Slowing(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert made.chunk(None).empty_ms == pytest.approx(0.6) and ran == [128] * 3, "nothing was known"
    assert made.chunk(None).empty_ms == pytest.approx(0.8) and ran == [128] * 4, "0.2 more than the least at most"
    ran.clear()
    found = made.serial(None, 0.01)
    assert {chunk.cold for chunk in found} == {True, False} and ran[:3] == ["alone"] * 3
    assert {chunk.empty_ms for chunk in found[:8]} == {0.01} and len(ran) == 3 + len(found) // 8 - 1
    assert max(chunk.empty_ms for chunk in found) == pytest.approx(0.03)
    assert made.chunk(None).empty_ms <= 0.8


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


def test_who_sleeps_while_he_is_screened_gets_no_smaller_chunks(monkeypatch: pytest.MonkeyPatch):
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
    made, _ = seat(monkeypatch, 30.0, room=1, fits=1)
    made._bounds, made._queue = (30.0, 1 << 20, 1 << 33, 256), 256
    assert made.is_too_small(0.4) and made.is_too_small(7.0) and not made.is_too_small(11.0)
    made._queue = 3
    assert not made.is_too_small(0.4), "no more can be queued"
    made.release(ahead=True)
    assert not made.is_too_small(0.4), "as many as could be"
    made.release()
    assert made.is_too_small(0.4), "nor need they be"
    made._bounds = (30.0, 1 << 20, 1 << 22, 256)
    assert not made.is_too_small(0.4), "there is no room for more"


def test_a_seat_tells_what_its_next_chunk_draws(monkeypatch: pytest.MonkeyPatch):
    made, _ = seat(monkeypatch, 0.2, room=128, fits=128)
    inputs = [SimpleNamespace(storage_bytes=1000), SimpleNamespace(storage_bytes=24)]
    made._ground = SimpleNamespace(slots=SimpleNamespace(layout=SimpleNamespace(inputs=inputs)))  # type: ignore[assignment]
    assert made.to_come == 128 * 1024
    made._kept = SimpleNamespace(bytes=1)  # type: ignore[assignment]
    assert made.to_come == 0, "a baseline may see the same ones again"


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


def test_memory_that_runs_out_in_the_middle_of_a_question_is_no_broken_protocol(monkeypatch: pytest.MonkeyPatch):
    def leave() -> None:
        raise ProtocolBreak("FINISHED in place of SEALED")

    def left(error: type[Exception] | None) -> None:
        made, _ = seat(monkeypatch, 0.2, room=8, fits=8)
        made._ground = SimpleNamespace(release=lambda: None)  # type: ignore[assignment]
        made._sealed = SimpleNamespace(leave=leave)  # type: ignore[assignment]
        with made:
            if error is not None:
                raise error

    monkeypatch.setattr(Seat, "close", lambda self: None)
    with pytest.raises(WorkerFailed, match="leaves no memory") as found:
        left(torch.OutOfMemoryError)
    assert found.value.outcome == "out_of_memory", "who is judged beside others is judged once more, alone"
    with pytest.raises(ProtocolBreak):
        left(None)
    with pytest.raises(WorkerDied):
        left(WorkerDied)
