"""Calls that go through one by one are told to microseconds, whether they can be queued or wait for their stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gpu_problems import scaled_relu

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, Outcome

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool("cuda:0", parallel=1) as made:
        yield made


CANDIDATE = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        {first}
        y = torch.relu(x)
        for _ in range({times}):
            y = y * 1.0
        return y * 3 + 1
"""


STREAMS = """
import torch


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.side = torch.cuda.Stream()

    def forward(self, x):
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            y = torch.relu(x)
            for _ in range({times}):
                y = y * 1.0
        torch.cuda.current_stream().wait_stream(self.side)
        return y * 3 + 1
"""


@pytest.mark.parametrize("times", [1, 4, 40])
def test_a_second_stream_makes_a_call_alone_no_liar(pool: Pool, times: int):
    instance = pool.prepare(scaled_relu(1024, 4096))
    found = pool.evaluate(EvaluationRequest(instance, STREAMS.format(times=times), backend="torch"))
    assert found.outcome is Outcome.OK and found.timing == "sealed", found.message
    timing = found.detail["timing"]
    print(times, "streams", timing)
    assert timing["clock"] != "serial" and timing["serial_ms"] <= timing["claim_ms"] + timing["serial_delta_ms"], timing


@pytest.mark.parametrize("first", ["", "torch.cuda.current_stream().synchronize()"])
@pytest.mark.parametrize("times", [1, 20, 200])
def test_a_call_alone_takes_what_it_claims(pool: Pool, first: str, times: int):
    instance = pool.prepare(scaled_relu(1024, 4096))
    code = CANDIDATE.format(first=first, times=times)
    found = pool.evaluate(EvaluationRequest(instance, code, backend="torch"))
    assert found.outcome is Outcome.OK and found.timing == "sealed", found.message
    timing = found.detail["timing"]
    print(times, first, timing)
    assert found.time_ms is not None and found.time_ms <= 1.25 * timing["claim_ms"], timing
    assert first or timing["clock"] == "events", timing  # with its host a call is known less well
    # Where a forward waits, less of the host's work than a claim's is left of a call alone.
    assert first or timing["serial_ms"] > 0.8 * timing["claim_ms"] - 0.02, timing


def test_a_call_that_fails_while_it_goes_through_alone_is_not_waited_for(pool: Pool):
    code = """
import sys
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_locals.get("turnstile") is not None:
                torch.zeros(4, device="cuda")[torch.tensor([1 << 30], device="cuda")]
            frame = frame.f_back
        return torch.relu(x) * 3 + 1
"""
    instance = pool.prepare(scaled_relu(1024, 4096))
    found = pool.evaluate(EvaluationRequest(instance, code, backend="torch"))
    assert found.outcome is Outcome.RUNTIME_ERROR and "assert" in found.message, (found.outcome, found.message)
    assert found.wall_s < 20
