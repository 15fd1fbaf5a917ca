"""A seat's chunks and calls alone, the empty worker's beside them, and what waits to be compared."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from seats_by_hand import seat, still

from kernelgrove.engine.evaluator.checking.correctness import Verdict
from kernelgrove.engine.evaluator.sittings.sitting import Again, Wrong
from kernelgrove.engine.evaluator.timing import empties as room
from kernelgrove.engine.evaluator.timing import seats
from kernelgrove.engine.evaluator.timing.empties import Empties
from kernelgrove.engine.evaluator.timing.figures import Chunk, sealed
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.sealing import Stuck
from kernelgrove.engine.evaluator.timing.seats import NoRoom, Seat
from kernelgrove.engine.evaluator.wire.arena import Spec
from kernelgrove.engine.evaluator.wire.protocol import ProtocolBreak
from kernelgrove.engine.evaluator.workers.handle import WorkerDied, WorkerFailed


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

    def singly(self: object, cold: list[bool], stall: bool, empty_ms: dict[bool, float], core: None) -> list[Chunk]:
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
        empties.chunk(None, None, 4, True, None)  # type: ignore[arg-type]
    assert closed == [True]


def test_an_empty_worker_that_failed_is_asked_nothing_more():
    """Its end was waited for once more, half a minute, and why it had failed was lost."""
    asked: list[object] = []
    worker: Any = SimpleNamespace(close=lambda: None)
    idle: Any = SimpleNamespace(worker=worker, leave=lambda: asked.append(idle))
    empties = Empties(lambda: worker, still)
    empties.start()
    empties.leave(idle)
    assert asked == [idle]
    with pytest.raises(Again, match="it was stuck"), empties._sound():
        raise Stuck
    empties.leave(idle)
    empties.start()  # another one, which may be made meanwhile
    empties._worker = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]
    empties.leave(idle)
    assert asked == [idle]


def test_no_more_is_subtracted_than_a_little_over_the_least_that_was_seen():
    """A stopped candidate may have work on the GPU that slows the empty worker down."""
    empties = Empties(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert empties.believed(0.6, ("", 64, True, False), 0.2) == 0.6
    assert empties.believed(9.0, ("", 64, True, False), 0.2) == pytest.approx(0.8)
    assert empties.believed(0.5, ("", 64, True, False), 0.2) == 0.5
    assert empties.believed(0.9, ("", 64, True, False), 0.2) == pytest.approx(0.7)
    assert empties.believed(9.0, ("", 64, False, False), 0.2) == 9.0


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
        def chunk(self, idle: object, filled: object, calls: int, stall: bool, core: object) -> float:  # type: ignore[override]
            ran.append(calls)
            return 0.6 + (0.5 if len(ran) % 3 else 0.0)

        def alone(self, idle: object, filled: object, cold: list[bool], *_: object) -> dict[bool, float]:  # type: ignore[override]
            ran.append("alone")
            return {kind: 0.01 + (0.5 if len(ran) % 3 else 0.0) for kind in set(cold)}

    made._empties = Slowing(lambda: None, still)  # type: ignore[arg-type,return-value]
    assert made.chunk(None).empty_ms == pytest.approx(0.6) and ran == [128] * 3, "nothing was known"
    assert not made.slow
    assert made.chunk(None).empty_ms == pytest.approx(0.8) and ran == [128] * 4, "0.2 more than the least at most"
    assert made.slow
    ran.clear()
    found = made.serial(None, 0.01)
    assert {chunk.cold for chunk in found} == {True, False} and ran[:3] == ["alone"] * 3
    assert {chunk.empty_ms for chunk in found[:8]} == {0.01} and len(ran) == 3 + len(found) // 8 - 1
    assert max(chunk.empty_ms for chunk in found) == pytest.approx(0.03)
    assert made.chunk(None).empty_ms <= 0.8


def test_where_a_processor_has_just_become_slow_another_is_found_once(monkeypatch: pytest.MonkeyPatch):
    real = Seat._empty_chunk
    made, _ = seat(monkeypatch, 0.2, room=128, fits=0)
    monkeypatch.setattr(Seat, "_empty_chunk", real)
    takes = {1: 0.6, 2: 0.9, 3: 0.6, 4: 0.9, 5: 0.9}  # ms, by processor
    ran: list[int | None] = []

    class Uneven(Empties):
        def core(self) -> int:
            return min(len(ran[2:]) + 1, 5)

        def is_fast(self, core: int) -> bool:
            raise AssertionError("nobody's host was seen")

        def chunk(self, idle: object, filled: object, calls: int, stall: bool, core: int | None) -> float:  # type: ignore[override]
            ran.append(core)
            return takes[core] if core else 0.9

    made._empties = Uneven(lambda: None, still)  # type: ignore[arg-type,return-value]
    made.release()
    made.measure_empty()
    assert ran == [1, 1, 1] and not made.slow, "nothing was known"
    made.measure_empty()
    assert ran[3:] == [2, 3] and made._core == 3 and not made.slow
    made.measure_empty()
    assert ran[5:] == [4, 5] and made._core == 5 and made.slow, "all of them may be"
    made.stall = True
    made.measure_empty()
    made.measure_empty()
    assert ran[7:] == [None] * 4 and made._core is None, "behind a stalled stream no host is seen"


def test_a_chunk_whose_processor_became_slow_is_run_once_more(monkeypatch: pytest.MonkeyPatch):
    """The empty worker's was fast: what it took is too little then."""
    made, tried = seat(monkeypatch, 0.2, room=128, fits=0)
    made.release()
    looked: list[int] = []
    fast = iter([True, False, False])
    made._empties.is_fast = lambda core: (looked.append(core), next(fast))[1]  # type: ignore[method-assign,func-returns-value]
    for runs in (1, 2, 2):
        tried.clear()
        made.chunk(None)
        assert tried == [(128, False)] * runs
    assert looked == [5] * 3, "the second one counts, whatever became of it"
    made.sitting.trusted = True
    made._kept = None
    made.chunk(None)
    assert len(looked) == 3, "a baseline's claims are enough"


def test_a_chunk_is_too_small_where_far_more_calls_could_be_queued(monkeypatch: pytest.MonkeyPatch):
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
