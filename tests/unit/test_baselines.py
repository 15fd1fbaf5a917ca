"""Baselines that the judge had no memory for: said so, tried again, and nothing of the first try kept alive."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator.sittings.sitting import Again
from kernelgrove.engine.evaluator.timing import baselines
from kernelgrove.engine.evaluator.timing.baselines import Shelf
from kernelgrove.engine.evaluator.timing.compiled import Compiled, Over
from kernelgrove.engine.evaluator.turns.locks import Turns
from kernelgrove.engine.evaluator.turns.tenancy import Tenancy
from kernelgrove.engine.evaluator.workers.handle import WorkerFailed

REFERENCE: Any = SimpleNamespace(key="p")


class Large:
    """Stands for gigabytes."""


@pytest.fixture
def shelf() -> Shelf:
    bench: Any = SimpleNamespace(tenancy=Tenancy(None), device="cuda:0")
    return Shelf(bench, None, ThreadPoolExecutor(1))  # type: ignore[arg-type]


def ask(shelf: Shelf) -> Future[Any]:
    with shelf.borrow(REFERENCE, None) as future:  # type: ignore[arg-type]
        future.exception()
        return future


def test_without_memory_it_is_tried_again_and_nothing_is_held(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    seen: list[weakref.ref[Large]] = []

    def eager(*_: object) -> str:
        large = Large()
        seen.append(weakref.ref(large))
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 6.00 GiB.")
        return "made"

    monkeypatch.setattr(baselines, "Eager", eager)
    failed = ask(shelf)
    assert isinstance(failed.exception(), Again) and "6.00 GiB" in str(failed.exception())
    gc.collect()
    assert seen[0]() is None, "the error kept what the frame below it had in hand"
    assert ask(shelf).result() == "made"
    assert ask(shelf).result() == "made" and len(seen) == 2


def test_a_baseline_that_fails_by_its_own_doing_is_not_tried_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    tries = []

    def eager(*_: object) -> str:
        tries.append(1)
        raise WorkerFailed("runtime_error", "run", "no")

    monkeypatch.setattr(baselines, "Eager", eager)
    assert ask(shelf).result() == ask(shelf).result() == "WorkerFailed: no" and len(tries) == 1


def test_a_compiled_baseline_without_memory_costs_a_candidate_its_ratio_and_nothing_else():
    lost: Future[Over] = Future()
    lost.set_exception(Again("no memory for a baseline: 6 GiB"))
    assert Over.of(lost).to_json() == {"failed": "no memory for a baseline: 6 GiB"}
    found: Future[Over] = Future()
    found.set_result(Over(2.0))
    assert Over.of(found).value == 2.0


def test_a_ratio_that_was_found_is_there_for_the_next_judge(tmp_path: Path):
    compiled = Compiled(None, None, None, None, tmp_path)  # type: ignore[arg-type]
    for found in (Over(2.0, (1.9, 2.1), measured_at="today"), Over(3.0, None, "screened", "today")):
        compiled._write("whole", found)
        assert compiled._read("whole") == found


def test_a_ratio_for_which_memory_was_short_is_not_kept(tmp_path: Path):
    compiled = Compiled(None, None, None, None, tmp_path)  # type: ignore[arg-type]
    compiled._write("short", Over(2.0, None, "screened", passing=True))
    assert compiled._read("short") is None and not list(tmp_path.iterdir())


def test_the_worker_that_computes_nothing_is_made_while_nobody_is_timed(monkeypatch: pytest.MonkeyPatch):
    """Whoever makes a context meanwhile would be seen in the time."""
    turns, made = Turns(), threading.Event()
    only = SimpleNamespace(alone=turns.alone)
    timing: Any = SimpleNamespace(empties=SimpleNamespace(start=made.set), exclusive=only)
    timing.screen = lambda *_: SimpleNamespace(time_ms=1.0)
    monkeypatch.setattr(baselines, "sitting_of", lambda *_: SimpleNamespace(close=lambda: None))
    commons: Any = SimpleNamespace(arena=lambda: None)
    with ThreadPoolExecutor(1) as threads:
        with turns.alone():
            bench: Any = SimpleNamespace(turns=turns)
            eager = threads.submit(baselines.Eager, bench, REFERENCE, None, timing, commons)
            assert not made.wait(0.2)
        assert eager.result(10).seat is None and made.is_set()
