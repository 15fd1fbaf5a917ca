"""Backends other than Triton on a real GPU: CUDA C++ compiled in the sandbox, and plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gpu_problems import scaled_relu

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Outcome, Problem

pytestmark = pytest.mark.gpu

CUDA = '''
import torch
from torch.utils.cpp_extension import load_inline

SOURCE = r"""
#include <torch/extension.h>
#include <c10/cuda/CUDAStream.h>

__global__ void relu_scale(const float* x, float* y, long long n) {
    long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (at < n) y[at] = fmaxf(x[at], 0.0f) * 3.0f + 1.0f;
}

torch::Tensor relu_scale_forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    long long n = x.numel();
    auto stream = c10::cuda::getCurrentCUDAStream();
    relu_scale<<<(n + 255) / 256, 256, 0, stream>>>(x.data_ptr<float>(), y.data_ptr<float>(), n);
    return y;
}
"""

extension = load_inline(
    name="relu_scale",
    cpp_sources="torch::Tensor relu_scale_forward(torch::Tensor x);",
    cuda_sources=SOURCE,
    functions=["relu_scale_forward"],
)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return extension.relu_scale_forward(x.contiguous())
'''

TORCH = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 3 + 1
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool("cuda:0", parallel=2) as pool:
        yield pool


@pytest.fixture(scope="module")
def instance(pool: Pool) -> Instance:
    return pool.prepare(scaled_relu(2048, 4096))


def judge(pool: Pool, instance: Instance, code: str, **fields: object) -> EvaluationResult:
    request = EvaluationRequest(instance, code, timeout_s=240.0, trials=2, samples=40, **fields)  # type: ignore[arg-type]
    return pool.evaluate(request)


def test_a_cuda_extension_is_compiled_judged_and_timed(pool: Pool, instance: Instance):
    found = judge(pool, instance, CUDA, backend="cuda")
    assert found.outcome is Outcome.OK, found.message
    assert found.provenance == "custom" and found.timing == "sealed"
    assert found.speedup["eager"] is not None and found.speedup["eager"] > 1.5
    spent = found.detail["seconds"]
    assert spent["loading"] < 0.5 * spent["compiling ahead"], f"what was built ahead was built again: {spent}"


def test_what_nvcc_says_reaches_the_proposer(pool: Pool, instance: Instance):
    found = judge(pool, instance, CUDA.replace("fmaxf(", "fmaxx("), backend="cuda", timing=False)
    assert found.outcome is Outcome.COMPILE_ERROR
    assert "fmaxx" in found.message and "error" in found.message.splitlines()[0]


def test_plain_pytorch_is_tagged_and_can_be_refused(pool: Pool, instance: Instance):
    assert judge(pool, instance, TORCH, backend="torch", timing=False).provenance == "library"
    refused = judge(pool, instance, TORCH, timing=False, require="custom")
    assert refused.outcome is Outcome.REJECTED and "relu" in refused.message


def test_a_slow_candidate_is_left_at_its_screened_time(pool: Pool, instance: Instance):
    found = judge(pool, instance, TORCH, best_ms=0.001)
    assert found.outcome is Outcome.OK and found.timing == "screened"


def test_max_autotune_is_a_baseline_where_it_is_asked_for(pool: Pool, instance: Instance):
    found = judge(pool, instance, TORCH, baselines=("eager", "compile", "max-autotune"))
    assert found.outcome is Outcome.OK, found.message
    assert all(found.baselines[name] for name in ("eager", "compile", "max-autotune")), found.detail["baselines"]


LARGE = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


def get_inputs():
    return [torch.randn(4096, 393216)]


def get_init_inputs():
    return []
"""


def test_six_gigabytes_of_input_are_judged(pool: Pool):
    """Inputs of which the judge cannot hold several cases: the audit and the variants are left out, the rest holds."""
    code = TORCH.replace("torch.relu(x) * 3 + 1", "torch.softmax(x, dim=-1)")
    found = judge(pool, pool.prepare(Problem("large_softmax", LARGE)), code, baselines=("eager",))
    assert found.outcome is Outcome.OK, found.message
    assert found.time_ms is not None and found.timing == "screened"
    assert found.speedup["eager"] == pytest.approx(1.0, rel=0.1)
