"""Projected eager times against times measured on one H200 (torch 2.11, fp32 tensors, medians; docs/projection.md).

Where the model is meant to hold it must be within a factor of two. Most of these figures helped to fix the model's
constants, so this guards a fit rather than showing that it predicts. It is off, and not asserted, for convolutions
with few input channels and for transposed 3-D ones followed by norms of tiny rows: 0.54 to 0.57 of the measured time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernelgrove.engine.evaluator.projection.aten import reference_works
from kernelgrove.engine.evaluator.projection.model import compulsory_bytes, project
from kernelgrove.engine.gpus import specs

Case = tuple[Callable[[], object], str, float]


def _meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def _conv_relu_bias() -> object:
    x = F.conv2d(_meta(128, 64, 128, 128), _meta(128, 64, 3, 3), _meta(128))
    return F.relu(x) + _meta(128, 1, 1)


def _linear_dropout_softmax() -> object:
    x = F.linear(_meta(128, 16384), _meta(16384, 16384), _meta(16384))
    return torch.softmax(F.dropout(x, 0.2, training=True), dim=1)


def _linear_norm_swish() -> object:
    x = nn.BatchNorm1d(8192, device="meta")(F.linear(_meta(1024, 8192), _meta(8192, 8192), _meta(8192)))
    x = (x + _meta(1)) / 1.0
    return x * torch.sigmoid(x)


CASES: dict[str, Case] = {
    "softmax": (lambda: torch.softmax(_meta(4096, 393216), 1), "default", 6.12),
    "layer norm of 16 long rows": (lambda: F.layer_norm(_meta(16, 64, 256, 256), (64, 256, 256)), "default", 8.35),
    "matmul, large K": (lambda: _meta(256, 524288) @ _meta(524288, 256), "default", 1.30),
    "matmul, large K, tf32": (lambda: _meta(256, 524288) @ _meta(524288, 256), "tf32", 0.40),
    "cumprod": (lambda: _meta(32768, 32768).cumprod(1), "default", 4.51),
    "conv relu bias": (_conv_relu_bias, "default", 3.93),
    "conv relu bias, strict": (_conv_relu_bias, "strict", 9.14),
    "linear dropout softmax": (_linear_dropout_softmax, "default", 1.44),
    "linear batch norm swish": (_linear_norm_swish, "default", 2.82),
}


@pytest.mark.parametrize("name", CASES)
def test_eager_is_projected_within_a_factor_of_two(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    forward, precision, measured = CASES[name]
    projection = project(reference_works(forward, precision), None, specs.find("H200").facts(), 1)
    ratio = projection.time_ms / measured
    with capsys.disabled():
        print(f"\n{name}: projected {projection.time_ms:.2f} ms, measured {measured:.2f} ms, ratio {ratio:.2f}", end="")
    assert 0.5 < ratio < 2.0, projection.launches


def test_projection_orders_the_problems_as_the_measurements_do() -> None:
    facts = specs.find("H200").facts()
    names = ["matmul, large K, tf32", "matmul, large K", "linear batch norm swish", "cumprod", "softmax"]
    times = [project(reference_works(CASES[n][0], CASES[n][1]), None, facts, 1).time_ms for n in names]
    assert times == sorted(times)


def test_no_projection_beats_moving_the_operands_once() -> None:
    facts = specs.find("H200").facts()
    x = _meta(4096, 393216)
    floor = compulsory_bytes([x], [x])
    projection = project([], None, facts, floor)
    assert projection.time_ms == pytest.approx(floor / 4800e9 * 1e3)
    assert "raised" in projection.notes[0]
