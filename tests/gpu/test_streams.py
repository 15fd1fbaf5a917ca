"""Streams run side by side where a candidate has several, though most workers have one hardware queue."""

from __future__ import annotations

import pytest
from gpu_problems import scaled_relu

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, Instance, Outcome

pytestmark = pytest.mark.gpu

IN_TURN = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        torch.cuda._sleep(1_000_000)
        torch.cuda._sleep(1_000_000)
        return torch.relu(x) * 3 + 1
"""

SIDE_BY_SIDE = """
import torch


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.side = torch.cuda.Stream()

    def forward(self, x):
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            torch.cuda._sleep(1_000_000)
        torch.cuda._sleep(1_000_000)
        torch.cuda.current_stream().wait_stream(self.side)
        return torch.relu(x) * 3 + 1
"""


def test_two_streams_take_half_the_time_of_one():
    found = {}
    with Pool("cuda:0", parallel=1) as pool:
        instance: Instance = pool.prepare(scaled_relu(256, 1024))
        for code in (IN_TURN, SIDE_BY_SIDE):
            found[code] = pool.evaluate(EvaluationRequest(instance, code, backend="torch"))
            assert found[code].outcome is Outcome.OK, found[code].message
    in_turn, side_by_side = found[IN_TURN], found[SIDE_BY_SIDE]
    assert in_turn.detail["state"]["one_hardware_queue"]
    assert not side_by_side.detail["state"]["one_hardware_queue"]
    assert side_by_side.time_ms < 0.7 * in_turn.time_ms, (side_by_side.time_ms, in_turn.time_ms)
