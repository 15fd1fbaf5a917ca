"""The limiter of a provider: calls at once, requests and tokens a minute, and rests that it asks for."""

from __future__ import annotations

import threading
import time

import pytest

from kernelgrove.engine.proposers.limits import Halted, Limiter, Limits, shared


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admitted(limiter: Limiter, tokens: int = 10) -> bool:
    """Whether a call may start at once; its place is given back, its tokens are not."""
    halt = threading.Event()
    if limiter._wait_s(tokens) > 0:
        return False
    with limiter.slot(tokens, halt):
        return True


def test_requests_a_minute() -> None:
    clock = Clock()
    limiter = Limiter(Limits(8, requests_per_minute=3), clock)
    assert [admitted(limiter) for _ in range(4)] == [True, True, True, False]
    clock.now += 59.9
    assert not admitted(limiter)
    clock.now += 0.2
    assert admitted(limiter)


def test_tokens_a_minute_as_they_were_used() -> None:
    clock = Clock()
    limiter = Limiter(Limits(8, tokens_per_minute=1000), clock)
    with limiter.slot(900) as used:
        assert not admitted(limiter, 200)
        used(100)
    assert admitted(limiter, 800) and not admitted(limiter, 200)
    clock.now += 61
    assert admitted(limiter, 5000), "a call larger than the rate goes alone"
    assert not admitted(limiter, 1)


def test_a_rest_holds_for_everybody() -> None:
    clock = Clock()
    limiter = Limiter(Limits(8), clock)
    limiter.quiet(30)
    limiter.quiet(5)
    assert not admitted(limiter)
    clock.now += 31
    assert admitted(limiter)


def test_places_are_given_back_and_waiting_ends_when_halted() -> None:
    limiter = Limiter(Limits(1))
    halt = threading.Event()
    entered = threading.Event()
    refused: list[bool] = []

    def second() -> None:
        try:
            with limiter.slot(1, halt):
                entered.set()
        except Halted:
            refused.append(True)

    with limiter.slot(1):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.05)
        assert not entered.is_set()
    waiting.join(5)
    assert entered.is_set()
    with limiter.slot(1):
        waiting = threading.Thread(target=second)
        waiting.start()
        halt.set()
        waiting.join(5)
    assert refused == [True]
    halt.set()
    with pytest.raises(Halted), limiter.slot(1, halt):
        pass


def test_models_of_one_account_share_a_limiter() -> None:
    assert shared("openai@x", Limits(3)) is shared("openai@x", Limits(3))
    assert shared("openai@x", Limits(3)) is not shared("openai@y", Limits(3))
