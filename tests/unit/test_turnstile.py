"""Calls that go through one by one: the judge's side for real, with a thread in the place of the worker's stream, and
kernels that the host runs."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from host_gpu import IMAGES, HostKernel, HostPage

from kernelgrove.engine.evaluator.checking.correctness import expect
from kernelgrove.engine.evaluator.checking.judged_reference import Case
from kernelgrove.engine.evaluator.checking.values import expect_value
from kernelgrove.engine.evaluator.inside import turnstile as of_worker
from kernelgrove.engine.evaluator.inside.chunks import Call, Chunks
from kernelgrove.engine.evaluator.inside.handover import forms
from kernelgrove.engine.evaluator.inside.turnstile import Turnstile as OfWorker
from kernelgrove.engine.evaluator.sittings.sitting import Rejected
from kernelgrove.engine.evaluator.timing.slots import Layout, Slots
from kernelgrove.engine.evaluator.timing.turnstile import Kernels, Turnstile
from kernelgrove.engine.evaluator.wire import page as of_page
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.page import Page
from kernelgrove.engine.evaluator.wire.protocol import Reply
from kernelgrove.engine.evaluator.workers.handle import WorkerFailed, WorkerTimeout

CALLS = 3


class Stream:
    """A worker and its stream, in a thread: *call* writes the outputs, and lets the turnstile know."""

    def __init__(self, slots: Slots, page: Page, call: Callable[[Stream, int], None]) -> None:
        self.slots, self.call = slots, call
        self.page = HostPage(page._memory)
        arena: Any = SimpleNamespace(address=slots.arena.bytes.data_ptr())
        self.turnstile = OfWorker(self.page, arena, IMAGES)
        self.failed: BaseException | None = None
        self.seen: list[torch.Tensor] = []  # what lay in the places of the inputs before the key was there
        self.waits, self.stopped, self.left_s = False, False, 60.0
        self.said: list[list[list[str | None]]] = []
        self.thread: threading.Thread | None = None

    # as a Worker

    def send(self, op: str, fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        if op == "finish":
            return
        self.plan = json.loads(blobs[0])
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def answer(self, expected: Reply, timeout_s: float, keep: bool = False) -> dict[str, Any]:
        if self.waits and keep:
            raise WorkerTimeout("it waits")
        assert self.thread is not None
        if expected is Reply.FINISHED:
            self.thread.join(timeout_s)
        if self.failed is not None:
            raise self.failed
        return {}

    def ask(self, op: str, expected: Reply, timeout_s: float, fields: dict[str, Any]) -> dict[str, Any]:
        return {"claims": [], "said": self.said}

    @property
    def waiting(self) -> bool:
        return self.failed is None

    def stop(self) -> None:
        self.stopped = self.page.stopped = True

    # as its stream

    def _run(self) -> None:
        self.turnstile.begin(self.plan["singly"], self.plan["stride"])
        self.turnstile.open()
        try:
            for number in range(len(self.plan["packed"])):
                self.seen.append(self.input(number).clone())
                self.turnstile.enter(number)
                self.call(self, number)
        except Exception as error:
            self.failed = error

    def input(self, number: int) -> torch.Tensor:
        return self.slots.arena.view(self.slots.layout.inputs[0].moved(number * self.slots.layout.stride))

    def says(self, number: int) -> list[list[str | None]]:
        """The largest element of a call's input, in words; kept for the reply."""
        self.said.append([["float", repr(float(self.input(number).max()))]])
        return self.said[-1]

    def output(self, number: int) -> torch.Tensor:
        slot = self.slots.layout.outputs[0][1]
        assert slot is not None
        return self.slots.arena.view(slot.moved(number * self.slots.layout.stride))


def honest(stream: Stream, number: int) -> None:
    stream.output(number).copy_(2 * stream.input(number) + 1)
    stream.turnstile.leave(number, stream.says(number) if stream.slots.layout.talks else None)


class Judge:
    def __init__(self, call: Callable[[Stream, int], None], talks: bool = False) -> None:
        x, (rows, columns) = torch.zeros(9, 130), (9, 130)
        expected = [expect("", x, x.double(), 1, "none", False)]
        expected += [expect_value("[1]", 0.5, 0.5, 1e-6, False, 0.0)] if talks else []
        layout = Layout.of(Case(None, 0, [x], b"", frozenset(), expected, 0, True))  # type: ignore[arg-type]
        self.slots = Slots(CpuArena.create(layout.size(CALLS)), layout)
        self.page = Page.create()
        self.worker = Stream(self.slots, self.page, call)
        own: Any = Kernels(*map(HostKernel, IMAGES), IMAGES, 0)  # type: ignore[arg-type]
        self.turnstile = Turnstile(self.worker, self.slots, own, self.page, 0.5, 0.1)  # type: ignore[arg-type]
        self.drawn = [[torch.randn(rows, columns)] for _ in range(CALLS)]
        self.slots.prime([x], CALLS)

    def run(self) -> list[float]:
        filled = self.slots.fill(self.drawn, CALLS, set())
        self.slots.poison(CALLS)
        passed = self.turnstile.run(filled, [False, False, True], 1.0, {"empty": False, "restore": False})
        self.turnstile.verify(passed)
        return passed.walls_ms


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Stream, int], None]], Judge]:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(of_worker, "loaded", HostKernel)
    return Judge


def test_each_call_sees_its_inputs_only_once_it_may_go(judge: Callable[..., Judge]):
    made = judge(honest)
    walls = made.run()
    assert len(walls) == CALLS and all(wall > 0 for wall in walls)
    for number, (drawn,) in enumerate(made.drawn):
        assert not (made.worker.seen[number] == drawn).any(), "nothing of it was to be read"
        assert torch.equal(made.worker.input(number), drawn)
        assert torch.equal(made.worker.output(number), 2 * drawn + 1)
    made.drawn = [[torch.randn(9, 130)] for _ in range(CALLS)]
    assert len(made.run()) == CALLS, "and so with the next tokens"


def test_no_thread_of_the_judge_disturbs_who_looks_at_the_clock(
    judge: Callable[..., Judge], monkeypatch: pytest.MonkeyPatch
):
    seen, is_done = [], Page.is_done

    def looked(page: Page, token: int) -> bool:
        seen.append(sys.getswitchinterval())
        return is_done(page, token)

    monkeypatch.setattr(Page, "is_done", looked)
    before = sys.getswitchinterval()
    judge(honest).run()
    assert max(seen) >= 0.2 and sys.getswitchinterval() == before
    seen.clear()

    def long(stream: Stream, number: int) -> None:
        time.sleep(0.1)
        honest(stream, number)

    judge(long).run()
    assert min(seen) == before, "others may work on while a call takes longer"


def test_calls_that_cannot_be_queued_go_through_as_well(judge: Callable[..., Judge]):
    made = judge(honest)
    made.worker.waits = True
    assert len(made.run()) == CALLS and made.turnstile.waited
    made.worker.waits = False
    assert len(made.run()) == CALLS and not made.turnstile.waited


def test_outputs_have_to_be_there_when_they_are_called_done(judge: Callable[..., Judge]):
    def early(stream: Stream, number: int) -> None:
        stream.page.give_up(stream.plan["singly"]["token"] + number)
        time.sleep(0.005)
        honest(stream, number)

    with pytest.raises(Rejected, match="outputs changed"):
        judge(early).run()


def test_outputs_stay_as_they_were_said_to_be(judge: Callable[..., Judge]):
    def batched(stream: Stream, number: int) -> None:
        """Says something of each call, and computes all when it has the last one's inputs."""
        stream.turnstile.leave(number, None)
        if number == CALLS - 1:
            for each in range(CALLS):
                stream.output(each).copy_(2 * stream.input(each) + 1)

    with pytest.raises(Rejected, match="outputs changed"):
        judge(batched).run()


def test_what_is_no_tensor_has_to_be_there_when_a_call_is_done_too(judge: Callable[..., Judge]):
    made = judge(honest, talks=True)
    assert len(made.run()) == CALLS and len(made.worker.said) == CALLS

    def later(stream: Stream, number: int) -> None:
        """The words for all calls once the last one's inputs are there."""
        stream.output(number).copy_(2 * stream.input(number) + 1)
        stream.turnstile.leave(number, [["float", "0.0"]])
        if number == CALLS - 1:
            for each in range(CALLS):
                stream.says(each)

    with pytest.raises(Rejected, match="outputs changed"):
        judge(later, talks=True).run()


def test_a_call_that_fails_says_so(judge: Callable[..., Judge]):
    def failing(stream: Stream, number: int) -> None:
        raise WorkerFailed("runtime_error", "run", "no")

    for waits in (True, False):
        made = judge(failing)
        made.worker.waits = waits
        started = time.monotonic()
        with pytest.raises(WorkerFailed, match="no"):
            made.run()
        assert time.monotonic() - started < 0.4, "nobody waits for what will not come"


def test_a_call_that_is_never_done_is_a_timeout(judge: Callable[..., Judge]):
    made = judge(lambda stream, number: None)
    with pytest.raises(WorkerTimeout, match=r"no answer within 0\.5 s"):
        made.run()
    assert made.worker.stopped


def test_all_calls_together_have_no_more_time_than_the_candidate_has_left(judge: Callable[..., Judge]):
    made = judge(lambda stream, number: None)
    made.worker.left_s = 0.1
    started = time.monotonic()
    with pytest.raises(WorkerTimeout):
        made.run()
    assert time.monotonic() - started < 0.4 and made.worker.left_s <= 0
    steady = judge(honest)
    steady.run()
    assert 59 < steady.worker.left_s < 60


def test_a_stream_is_left_waiting_by_no_failure(judge: Callable[..., Judge], monkeypatch: pytest.MonkeyPatch):
    made = judge(honest)

    def gone(*_: object, **__: object) -> None:
        raise WorkerFailed("runtime_error", "run", "it failed while it queued")

    monkeypatch.setattr(made.worker, "answer", gone)
    with pytest.raises(WorkerFailed):
        made.run()
    assert made.worker.thread is not None
    made.worker.thread.join(5)
    assert not made.worker.thread.is_alive()


def test_each_call_says_what_is_no_tensor_before_the_next_one():
    made, left = object.__new__(Chunks), []
    event = SimpleNamespace(record=lambda: None, elapsed_time=lambda end: 0.25)
    made._events, made._parity = [(event, event)] * 3, SimpleNamespace(before_call=lambda: None)  # type: ignore[assignment]
    outputs, wanted = torch.zeros(3, 2), forms([["[0]", [0, 8, [2], [1], "float32"]], ["[1]", None]])
    calls = [Call(number, wanted, [outputs[number], None]) for number in range(3)]
    through: Any = SimpleNamespace(enter=lambda number: None, leave=lambda number, said: left.append((number, said)))
    loop = made._looping(lambda number: [("[0]", torch.full((2,), float(number))), ("[1]", number / 2)])
    loop(calls, through)
    made._calls = calls
    said = [[["float", "0.0"]], [["float", "0.5"]], [["float", "1.0"]]]
    found = made.claims()
    assert found["said"] == said and found["claims"] == [0.25] * 3 and found["copied"]
    assert left == list(enumerate(said)) and outputs.tolist() == [[0, 0], [1, 1], [2, 2]]
    plain = [Call(number, wanted[:1], [outputs[number]]) for number in range(3)]
    made._looping(lambda number: [("[0]", torch.ones(2))])(plain, through)
    assert left[3:] == [(number, None) for number in range(3)] and made._said == []


def test_tokens_wrap_around():
    page = Page.create()
    page.give_up(0xFFFFFFFE)
    assert page.is_done(0xFFFFFFFE) and page.is_done(0xFFFFFFFD) and not page.is_done(0xFFFFFFFF)
    page.give_up(1)
    assert page.is_done(0xFFFFFFFF) and page.is_done(1) and not page.is_done(2)


@pytest.mark.parametrize("in_order", [True, False])
def test_a_key_is_there_before_go_on_hosts_of_any_kind(monkeypatch: pytest.MonkeyPatch, in_order: bool):
    """Whoever saw go and no key yet would compute on inputs that are still masked, and be wrong."""
    monkeypatch.setattr(of_page, "_IN_ORDER", in_order)
    page, seen = Page.create(), []

    def look(what: str) -> None:
        seen.append((what, ctypes.c_uint64.from_address(page.key_address(2) + page._at).value, page._go.value))

    page._held = SimpleNamespace(release=lambda: look("let go"), acquire=lambda: look("taken"))  # type: ignore[assignment]
    page.let(2, 7, 99)
    assert seen == ([] if in_order else [("let go", 99, 0), ("taken", 99, 0)]) and page._go.value == 7
    seen.clear()
    page.digests(1)
    assert [what for what, *_ in seen] == ([] if in_order else ["let go", "taken"])


def test_a_worker_lets_go_of_the_page_before_the_arena():
    """A thread of the candidate's that goes on in the arena ends the context, and its last reply would be an error."""
    closed: list[str] = []
    made = object.__new__(Chunks)
    made.arena = SimpleNamespace(close=lambda: closed.append("arena"))  # type: ignore[assignment]
    made._turnstile = SimpleNamespace(close=lambda: closed.append("page"))  # type: ignore[assignment]
    made.close()
    assert closed == ["page", "arena"]
