"""A candidate whose forward waits for its stream, timed from end to end: judge and workers for real, but for the GPU.

No stream can be stalled before it, so that hosts are at work while the clock runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from host_gpu import HostArena, HostGpu
from seats_by_hand import still

from kernelgrove.engine.evaluator.checking.judged_reference import JudgedReference
from kernelgrove.engine.evaluator.sittings.laps import Laps
from kernelgrove.engine.evaluator.sittings.sitting import Sitting, Wrong
from kernelgrove.engine.evaluator.timing import confirming, turnstile
from kernelgrove.engine.evaluator.timing.confirming import confirm
from kernelgrove.engine.evaluator.timing.empties import Empties, Key
from kernelgrove.engine.evaluator.timing.figures import EMPTY_MS, EMPTY_SHARE, Figure
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.seats import Seat
from kernelgrove.model import Instance

PROBLEM = """
import torch  # on the cpu, where candidates' outputs may be then


class Model(torch.nn.Module):
    def forward(self, x):
        y = torch.relu(x)
        return {"positive": y, "largest": y.max().item()}


def get_inputs():
    return [torch.randn(16, 64)]


def get_init_inputs():
    return []
"""
CANDIDATE = """
import time

import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        torch.cuda.current_stream().synchronize()
        time.sleep({call_s})
        y = torch.relu(x)
        return {{"positive": {positive}, "largest": {largest}}}
"""
LIAR = """
elapsed_time = torch.cuda.Event.elapsed_time
torch.cuda.Event.elapsed_time = lambda start, end: elapsed_time(start, end) / 100
"""


class Watched(Empties):
    """*then* is done once it is known what a chunk takes that cannot be queued; *seen*: what each of those took, and
    what of it was believed, in ms."""

    then: Callable[[], None] = staticmethod(lambda: None)
    seen: list[tuple[float, float]]

    def believed(self, found_ms: float, key: Key, most_ms: float) -> float:
        believed_ms = super().believed(found_ms, key, most_ms)
        _, calls, queued, _ = key
        if calls and not queued:
            self.seen.append((found_ms, believed_ms))
            if len(self.seen) == 1:
                self.then()
        return believed_ms


class Scene:
    def __init__(self, gpu: HostGpu) -> None:
        self.gpu, self.pending = gpu, Pending(Held(1 << 28))
        self.empties = Watched(lambda: gpu.fork(empty=True), still)
        self.empties.seen = []

    def confirmed(
        self, call_ms: float, positive: str = "y", largest: str = "y.max().item()", besides: str = ""
    ) -> Figure:
        """Of a candidate whose calls take *call_ms*, and a little more."""
        reference = JudgedReference(Instance("p", "d", "full", PROBLEM, "full", PROBLEM), "cpu", "default", 1 << 28)
        bench: Any = SimpleNamespace(device="cpu", fork=lambda *_: self.gpu.fork(), arena=HostArena.create)
        code = CANDIDATE.format(call_s=1e-3 * call_ms, positive=positive, largest=largest) + besides
        with Sitting(bench, reference, code, timeout_s=30.0) as sitting:
            sitting.load(reference.case(0), "default", Laps())
            of = (sitting, self.empties, self.pending, call_ms / 2)  # so that there are more of them in a chunk
            with Seat(*of, memory=1 << 26, timeout_s=30.0) as seat:
                figure = confirm(seat, None, None, still).figure
            assert seat.stall is False, "behind a stalled stream it would wait for ever"
        return figure


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    monkeypatch.setattr(confirming, "_LATER_S", ())  # nobody looks at more chunks: that takes its time
    # On a busy machine whoever looks without a pause is kept from it when it matters; whoever sleeps is let in at once.
    for name, value in (("_SPIN_S", 0.0), ("_PATIENCE", 0), ("_PAUSE_S", 1e-4)):
        monkeypatch.setattr(turnstile, name, value)
    gpu = HostGpu(monkeypatch, tmp_path)
    made = Scene(gpu)
    yield made
    made.empties.close()
    gpu.close()


def test_an_honest_claim_is_borne_out(scene: Scene):
    figure = scene.confirmed(8.0)
    assert figure.claim_ms >= 8.0 and figure.time_ms == pytest.approx(figure.claim_ms, rel=0.25)
    scene.pending.settle()


@pytest.mark.parametrize("wrong", [{"positive": "1.01 * y"}, {"largest": "y.mean().item()"}])
def test_a_wrong_output_of_either_kind_is_told(scene: Scene, wrong: dict[str, str]):
    scene.confirmed(1.0, **wrong)
    (name,) = wrong
    with pytest.raises(Wrong, match=rf"in a timed call.*: output\['{name}'\]"):
        scene.pending.settle()


def test_who_claims_a_hundredth_is_held_to_either_clock(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(confirming, "_LATER_S", (0.0,))  # more chunks bear it out no better
    figure = scene.confirmed(8.0, besides=LIAR)
    true_ms = 100 * figure.claim_ms
    assert true_ms >= 8.0 and figure.time_ms >= 0.8 * true_ms
    assert figure.detail["bound_ms"] >= 0.6 * true_ms, "in chunks"
    assert figure.detail["serial_ms"] >= 0.6 * true_ms, "and one by one"


def test_its_host_works_where_the_empty_workers_did(scene: Scene, tmp_path: Path):
    """Two processors may differ by half."""
    log, allowed = tmp_path / "cores", os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is no choice")
    noted = f"""
import json
import os
import sys

def noted(value):
    frame = sys._getframe(1)
    while frame is not None and "turnstile" not in frame.f_locals:
        frame = frame.f_back
    how = "checked" if frame is None else "together" if frame.f_locals["turnstile"] is None else "singly"
    with open({str(log)!r}, "a") as file:
        file.write(json.dumps([how, len(os.sched_getaffinity(0))]) + "\\n")
    return value
"""
    scene.confirmed(1.0, largest="noted(y.max().item())", besides=noted)
    seen = Counter(map(tuple, map(json.loads, log.read_text().splitlines())))
    assert seen[("together", 1)] >= 4 * 16 and seen[("singly", 1)] >= 8
    assert {each for each in seen if each[1] > 1} == {("together", len(allowed))}, "wherever, when no clock runs"


def test_of_a_gpu_that_became_slow_little_is_subtracted(scene: Scene):
    """It may be what a stopped candidate left running there."""
    scene.empties.then = lambda: setattr(scene.gpu.dials, "empty_waits_s", 0.04)
    figure = scene.confirmed(8.0, besides=LIAR)
    (first_ms, _), *later = scene.empties.seen
    most_ms = first_ms + max(EMPTY_MS, EMPTY_SHARE * first_ms)
    for found_ms, believed_ms in later:
        assert found_ms > 30 and believed_ms <= most_ms + 1e-6
    assert later and figure.detail["bound_ms"] >= 0.6 * 100 * figure.claim_ms
