"""Seats whose GPU is put in by hand: what its clocks and its streams would do is told."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kernelgrove.engine.evaluator.timing import seats
from kernelgrove.engine.evaluator.timing.figures import Chunk
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.sealing import Stuck
from kernelgrove.engine.evaluator.timing.seats import Seat


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
        self.slow = False
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

        def together(self, stall: bool, empty_ms: float, core: int | None) -> Chunk:
            assert core == (None if stall or made._ahead else 5), "a host that is seen is where the empty worker's was"
            tried.append((self.calls, stall))
            if stall and self.calls > fits:
                raise Stuck
            return Chunk((estimate_ms,) * self.calls, estimate_ms * self.calls + empty_ms, empty_ms)

        def singly(self, cold: list[bool], stall: bool, empty_ms: dict[bool, float], core: int | None) -> list[Chunk]:
            assert core == (None if stall else 5), "as in a chunk"
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
        alone=lambda idle, filled, cold, waits, core: dict.fromkeys((False, True), 0.05 if waits else 0.01),
        believed=lambda ms, *_: ms,
        looks=lambda key: 1,
        core=lambda: 5,
        is_fast=lambda core: True,
    )
    made._empties, made._estimate_ms, made._timeout_s, made._alone = empties, estimate_ms, 1.0, 8
    layout = SimpleNamespace(stride=512, size=lambda calls: 512 * calls)
    made._few, made._ground = 8, SimpleNamespace(slots=SimpleNamespace(layout=layout))  # type: ignore[assignment]
    made._sealed = SimpleNamespace(turnstile=SimpleNamespace(waited=False))  # type: ignore[assignment]
    made.slow, made._core = False, None
    made._stuck, made._kept, made._idle, made._empty, made._hasty = 0, None, None, None, 0
    made._how_it_lies, made._cold_too, made._singles, made.device = "", False, 0, 0
    made._bounds, made._queue = (30.0, 512, 1 << 33, 256), 256
    monkeypatch.setattr(seats, "l2_bytes", lambda _: l2)
    made.pending = Pending(Held(1 << 30))
    return made, tried
