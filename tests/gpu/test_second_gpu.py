"""A judge for the second GPU uses that one, and leaves the first alone."""

from __future__ import annotations

import subprocess

import pytest
from gpu_problems import scaled_relu

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, Outcome

pytestmark = pytest.mark.gpu

CANDIDATE = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        assert x.device.index == torch.cuda.current_device() == 1
        y = torch.empty(x.shape, device="cuda")
        return torch.add(torch.relu(x) * 3, 1, out=y)
"""


def used_mib() -> list[int]:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return [int(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def test_the_second_gpu_alone_is_used():
    before = used_mib()
    if len(before) < 2:
        pytest.skip("there is one GPU")
    with Pool("cuda:1", parallel=2) as pool:
        instance = pool.prepare(scaled_relu(2048, 4096))
        found = pool.evaluate(EvaluationRequest(instance, CANDIDATE, backend="torch"))
        during = used_mib()
    assert found.outcome is Outcome.OK and found.timing == "sealed", found.message
    assert during[0] - before[0] < 64 and during[1] - before[1] > 1000, (before, during)
