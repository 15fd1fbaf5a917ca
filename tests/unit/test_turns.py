"""Turns: together or alone, in phases, and nobody starves."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from kernelgrove.engine.evaluator.turns.locks import Ranks, Turns


def start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_those_who_wait_run_in_phases():
    """Three to share and three to be alone wait for one who is alone: the sharers go together, then the others."""
    turns, log, go = Turns(), [], threading.Event()
    inside = threading.Semaphore(0)

    def first() -> None:
        with turns.alone():
            inside.release()
            go.wait(5)

    def share() -> None:
        with turns.shared():
            log.append("shared")
            inside.release()
            time.sleep(0.02)

    def alone() -> None:
        with turns.alone():
            log.append("alone")

    threads = [start(first)]
    inside.acquire()
    for number in range(3):
        threads += [start(alone), start(share)]
        until(lambda number=number: turns._waiting_alone + turns._waiting_sharing == 2 * (number + 1))
    go.set()
    for thread in threads:
        thread.join(5)
    assert log == ["shared"] * 3 + ["alone"] * 3


def test_one_who_waits_to_be_alone_is_not_passed_by_later_sharers():
    turns, log, go = Turns(), [], threading.Event()

    def share() -> None:
        with turns.shared():
            go.wait(5)
            log.append("shared")

    def alone() -> None:
        with turns.alone():
            log.append("alone")

    early = start(share)
    until(lambda: turns._sharing == 1)
    writer = start(alone)
    until(lambda: turns._waiting_alone == 1)
    late = start(share)
    until(lambda: turns._waiting_sharing == 1)
    go.set()
    for thread in (early, writer, late):
        thread.join(5)
    assert log == ["shared", "alone", "shared"]


def test_alone_is_alone_and_everybody_gets_through():
    turns, state, broken = Turns(), {"sharing": 0, "alone": 0}, []
    guard = threading.Lock()

    def change(key: str, by: int) -> None:
        with guard:
            state[key] += by
            if state["alone"] > 1 or (state["alone"] and state["sharing"]):
                broken.append(dict(state))

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            key = rng.choice(("sharing", "sharing", "alone"))
            with turns.alone() if key == "alone" else turns.shared():
                change(key, 1)
                time.sleep(rng.random() / 5000)
                change(key, -1)

    threads = [start(lambda seed=seed: work(seed)) for seed in range(8)]
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "somebody never got a turn"
    assert not broken and state == {"sharing": 0, "alone": 0}


def test_an_error_inside_gives_the_turn_back():
    turns = Turns()
    for turn in (turns.alone, turns.shared):
        try:
            with turn():
                raise ValueError
        except ValueError:
            pass
    with turns.alone():
        pass


def test_whom_most_wait_for_goes_first_and_no_more_than_may_run_at_once():
    """While one is at work a spare, a candidate and a baseline ask, in this order."""
    ranks, order, go = Ranks(1), [], threading.Event()
    inside = threading.Semaphore(0)

    def work(name: str, rank: int) -> None:
        with ranks.turn(rank):
            order.append(name)
            inside.release()
            go.wait(5)

    threads = [start(lambda: work("first", 3))]
    assert inside.acquire(timeout=5)
    for count, (name, rank) in enumerate((("spare", 3), ("candidate", 2), ("second candidate", 2), ("baseline", 1)), 1):
        threads.append(start(lambda name=name, rank=rank: work(name, rank)))
        until(lambda count=count: len(ranks._waiting) == count)
    assert order == ["first"]
    go.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "baseline", "candidate", "second candidate", "spare"]
