"""Every problem that ships: quick and finite at its small size, worth timing at its full one, hard to fake."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator.checking.judged_reference import JudgedReference
from kernelgrove.model import Instance
from kernelgrove.problems.outputs import flatten
from kernelgrove.problems.problem import library, load, sized_source
from kernelgrove.problems.reference import Reference, validate
from kernelgrove.problems.scale import measure

EXPECTED = {
    *("gelu_scale_add", "relu", "softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "row_sum", "row_max"),
    *("row_argmax", "cumulative_sum", "cross_entropy", "matmul", "matmul_large_k", "linear_bias_gelu"),
    *("linear_batch_norm_swish", "conv2d_relu_bias", "conv2d_relu_max_pool", "attention", "mlp_block"),
}


def leaves(value: Any) -> list[torch.Tensor]:
    return [leaf for _, leaf in flatten(value) if isinstance(leaf, torch.Tensor)]


def test_the_library_holds_what_it_should() -> None:
    assert set(library()) >= EXPECTED


@pytest.mark.parametrize("name", library())
def test_small_is_quick_finite_and_not_degenerate(name: str) -> None:
    problem = load(name)
    reference = Reference(sized_source(problem, "small"), name, problem.mode)
    started = time.perf_counter()
    description = validate(reference, "cpu")
    assert time.perf_counter() - started < 2
    assert sum(spec.tensor for spec in description.outputs) >= 1
    small = sized_source(problem, "small")
    instance = Instance(name, problem.digest, "full", small, "small", small, problem.mode)
    assert JudgedReference(instance, "cpu", "default", 1 << 28).weaknesses(1e-2) == []
    cost = measure(reference.source, name, problem.mode, "cpu")
    assert cost is not None
    assert cost.elements <= 100_000
    assert cost.flops <= 4e6, "more takes the interpreter over a quarter of a second"


@pytest.mark.parametrize("name", library())
def test_small_sizes_are_unequal_and_awkward(name: str) -> None:
    small = load(name).sizes["small"]
    assert len(set(small.values())) == len(small)
    powers = [size for size in small.values() if size > 2 and size & (size - 1) == 0]
    assert len(powers) <= 1, "a power of two in every dimension hides a missing bounds check"


@pytest.mark.parametrize("name", library())
def test_full_is_as_written_and_worth_timing(name: str) -> None:
    problem = load(name)
    assert sized_source(problem) == sized_source(problem, "full") == problem.source
    reference = Reference(problem.source, name, problem.mode)
    model = reference.make(0, "meta")
    inputs = reference.inputs(1, "meta")
    tensors = leaves(inputs) + leaves(reference.run(model, inputs)) + list(model.parameters())
    size = sum(t.numel() * t.element_size() for t in tensors)
    assert size < 2e9, "inputs, outputs, weights and their copies fit in 4 GB"
    cost = measure(problem.source, name, problem.mode, "meta")
    assert cost is not None
    # 0.05 ms of an H100's 3.35 TB/s, or of its 67 TFLOP/s in fp32
    assert size > 0.05e-3 * 3.35e12 or cost.flops > 0.05e-3 * 67e12


@pytest.mark.parametrize("name", library())
def test_no_weight_is_left_at_one_or_zero(name: str) -> None:
    problem = load(name)
    model = Reference(sized_source(problem, "small"), name).make(3, "cpu")
    for key, weight in model.named_parameters():
        assert weight.numel() > 1 and weight.std() > 0.01, key


def test_rms_norm_is_written_with_elementary_operators() -> None:
    assert "rms_norm(" not in load("rms_norm").source


def test_outputs_do_not_depend_on_the_process() -> None:
    problem = load("linear_bias_gelu")
    outputs = []
    for _ in range(2):
        reference = Reference(sized_source(problem, "small"), "p")
        outputs.append(reference.run(reference.make(7, "cpu"), reference.inputs(8, "cpu")))
        torch.rand(3)
    assert torch.equal(*outputs)
