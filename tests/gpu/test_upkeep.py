"""What must not grow with the number of candidates: the memory that a judge holds, and what a worker collects."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gpu_problems import scaled_relu

from kernelgrove.engine.evaluator import pool as pools
from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, EvaluationResult, Outcome

pytestmark = pytest.mark.gpu

PLAIN = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 3 + 1
"""
LITTERED = """
import gc
import sys

import torch

COUNT = 200_000


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.before = gc.get_freeze_count()
        self.many = [[number] for number in range(COUNT)]

    def forward(self, x):
        frame, names = sys._getframe(), set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        if "loop" in names and gc.get_freeze_count() - self.before < COUNT:
            raise RuntimeError("each chunk begins with a look at all that was there before")
        return torch.relu(x) * 3 + 1
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool("cuda:0", parallel=6) as made:
        yield made


def test_what_was_there_before_anything_is_timed_is_looked_at_once(pool: Pool):
    instance = pool.prepare(scaled_relu(2048, 4096))
    found = pool.evaluate(EvaluationRequest(instance, LITTERED, backend="torch"))
    assert found.outcome is Outcome.OK and found.timing == "sealed", found.message


def test_large_candidates_of_several_problems_leave_each_other_memory(pool: Pool):
    instances = [pool.prepare(scaled_relu(*size)) for size in ((4096, 16384), (16384, 10000), (4096, 32000))]

    def judge(number: int) -> EvaluationResult:
        return pool.evaluate(EvaluationRequest(instances[number % len(instances)], PLAIN, backend="torch"))

    with ThreadPoolExecutor(pool.parallel) as threads:
        found = list(threads.map(judge, range(15)))
    assert [(each.outcome, each.timing) for each in found] == [(Outcome.OK, "sealed")] * len(found)
    assert not [each.detail["judged_again_after"] for each in found if "judged_again_after" in each.detail]


def test_a_freed_chunk_is_given_back_whole():
    program = """
import torch

chunk = torch.empty(8 << 30, dtype=torch.uint8, device="cuda")
del chunk
small = [torch.empty(256 << 20, dtype=torch.uint8, device="cuda") for _ in range(2)]
torch.cuda.empty_cache()
print(torch.cuda.memory_reserved() >> 20)
"""
    environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": pools._ALLOCATOR}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 512, "MiB; small tensors hold what they were cut out of"


def test_a_compiled_baseline_is_measured_once_for_all_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERNELGROVE_CACHE", str(tmp_path))
    kept = []
    for _ in range(2):
        with Pool("cuda:0", parallel=1) as judge:
            instance = judge.prepare(scaled_relu(1024, 4096))
            found = judge.evaluate(EvaluationRequest(instance, PLAIN, backend="torch"))
        assert found.outcome is Outcome.OK and found.baselines["compile"], found.message
        kept.append(found.detail["baselines"]["compile"])
    assert kept[0] == kept[1] and kept[0]["measured_at"]
