"""Counts of eager PyTorch's launches against arithmetic done by hand, on meta tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernelgrove.engine.evaluator.projection.aten import AtenCounter, reference_works
from kernelgrove.engine.evaluator.projection.reductions import LongestReduction
from kernelgrove.engine.evaluator.projection.traffic import touched
from kernelgrove.engine.evaluator.wire.work import Work


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def one(forward: Callable[[], object], precision: str = "default") -> Work:
    works = reference_works(forward, precision)
    assert len(works) == 1, [work.name for work in works]
    return works[0]


def test_pointwise_moves_each_operand_once() -> None:
    x, y = meta(1000, 1000), meta(1000)
    work = one(lambda: x + y)
    assert (work.read_bytes, work.write_bytes) == (4_000_000 + 4000, 4_000_000)
    assert work.flops == {"fp32": 1e6} and work.kind == "aten" and work.name == "aten.add"


def test_the_same_operand_twice_is_read_once() -> None:
    x = meta(1000)
    assert one(lambda: x * x).read_bytes == 4000


def test_in_place_reads_and_writes_fill_only_writes() -> None:
    x = meta(1000)
    assert (one(lambda: x.add_(1)).read_bytes, one(lambda: x.add_(1)).write_bytes) == (4000, 4000)
    assert (one(lambda: x.zero_()).read_bytes, one(lambda: x.zero_()).write_bytes) == (0, 4000)
    y = meta(1000)
    assert (one(lambda: x.copy_(y)).read_bytes, one(lambda: x.copy_(y)).write_bytes) == (4000, 4000)


def test_views_and_allocations_launch_nothing() -> None:
    x = meta(8, 16, 32)
    forward = lambda: (x.view(128, 32).t(), x.reshape(-1), x[1:, ::2], x.expand(2, 8, 16, 32), torch.empty_like(x))  # noqa: E731
    assert reference_works(forward) == []


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (meta(10, 10), 400),
        (meta(10, 10).t(), 400),
        (meta(10).expand(5, 10), 40),
        (meta(100)[::2], 99 * 4),  # whole sectors
        (meta(1000)[::100], 10 * 32),  # one sector an element
        (meta(100).unfold(0, 10, 1), 400),  # overlapping windows once
        (meta(64, 64)[:, :8], 64 * 32),
        (meta(0, 5), 0),
        (meta(3, dtype=torch.float64)[0], 8),
    ],
)
def test_touched_bytes(tensor: torch.Tensor, expected: int) -> None:
    assert touched(tensor) == expected


@pytest.mark.parametrize(
    ("dtype", "precision", "unit"),
    [
        (torch.float32, "default", "dot:fp32"),
        (torch.float32, "tf32", "dot:tf32"),
        (torch.float32, "any", "dot:tf32"),
        (torch.float16, "strict", "dot:fp16"),
        (torch.bfloat16, "default", "dot:bf16"),
        (torch.float64, "default", "fp64"),
    ],
)
def test_matrix_product(dtype: torch.dtype, precision: str, unit: str) -> None:
    a, b = meta(64, 128, dtype=dtype), meta(128, 32, dtype=dtype)
    work = one(lambda: a @ b, precision)
    assert work.flops == {unit: 2.0 * 64 * 128 * 32}
    assert work.read_bytes == (64 * 128 + 128 * 32) * dtype.itemsize


def test_composite_operators_are_taken_apart() -> None:
    linear = nn.Linear(128, 32, device="meta")
    work = one(lambda: linear(meta(4, 8, 128)))
    assert work.name == "aten.addmm" and work.flops == {"dot:fp32": 2.0 * 32 * 128 * 32}
    a, b = meta(3, 64, 128), meta(3, 128, 32)
    assert one(lambda: torch.einsum("bij,bjk->bik", a, b)).flops["dot:fp32"] == 3 * 2.0 * 64 * 128 * 32


def test_convolution_is_tf32_by_default_with_layout_and_bias() -> None:
    conv, x = nn.Conv2d(16, 32, 3, device="meta"), meta(8, 16, 34, 34)
    works = {work.name.rpartition(":")[2]: work for work in reference_works(lambda: conv(x))}
    assert set(works) == {"to_nhwc", "aten.convolution", "to_nchw", "bias"}
    flops = 2.0 * 8 * 32 * 32 * 32 * 16 * 9
    assert works["aten.convolution"].flops == {"dot:tf32": flops}
    strict = reference_works(lambda: conv(x), "strict")
    assert [work.name for work in strict] == ["aten.convolution", "aten.convolution:bias"]
    assert strict[0].flops == {"dot:fp32": flops}


def test_channels_last_needs_no_conversion_and_few_channels_are_padded() -> None:
    conv = nn.Conv2d(3, 8, 3, bias=False, device="meta")
    x = meta(2, 3, 34, 34).to(memory_format=torch.channels_last)
    work = one(lambda: conv(x))
    assert work.flops == {"dot:tf32": 2.0 * 2 * 32 * 32 * 8 * 8 * 9}


def test_transposed_and_depthwise_convolutions() -> None:
    x = meta(2, 8, 5, 5)
    up = reference_works(lambda: F.conv_transpose2d(x, meta(8, 16, 3, 3), stride=2), "strict")
    assert up[0].flops == {"dot:fp32": 2.0 * (2 * 5 * 5) * 8 * 16 * 9}
    depth = one(lambda: F.conv2d(x, meta(8, 1, 3, 3), groups=8))
    assert depth.flops == {"dot:fp32": 2.0 * 2 * 8 * 3 * 3 * 9}


@pytest.mark.parametrize(("n", "passes"), [(1024, 1), (8192, 1), (16384, 3)])
def test_softmax_reads_long_rows_three_times(n: int, passes: int) -> None:
    work = one(lambda: torch.softmax(meta(64, n), -1))
    assert work.requested_bytes == (passes + 1) * 64 * n * 4
    assert work.read_bytes + work.write_bytes == 2 * 64 * n * 4


def test_layer_norm_is_one_program_a_row() -> None:
    x = meta(16, 64, 32)
    work = one(lambda: F.layer_norm(x, (64, 32)))
    assert (work.programs, work.num_warps) == (16, 4)
    assert work.requested_bytes >= 3 * 16 * 64 * 32 * 4


def test_batch_norm_reads_twice_in_training_and_once_in_evaluation() -> None:
    norm, x = nn.BatchNorm2d(16, device="meta"), meta(8, 16, 32, 32)
    data = x.numel() * 4
    assert sum(work.read_bytes for work in reference_works(lambda: norm(x))) >= 2 * data
    norm.eval()
    assert data <= one(lambda: norm(x)).read_bytes < 1.1 * data


def test_kernels_that_only_exist_on_cuda_are_counted_as_such() -> None:
    q = meta(2, 4, 128, 64)
    work = one(lambda: F.scaled_dot_product_attention(q, q, q))
    assert work.flops["dot:tf32"] == 3 * 4.0 * 8 * 128 * 128 * 64  # fp32: three TF32 products each
    half = q.half()
    assert one(lambda: F.scaled_dot_product_attention(half, half, half, is_causal=True)).flops["dot:fp16"] == (
        2.0 * 8 * 128 * 128 * 64
    )
    assert one(lambda: F.dropout(q, 0.5, training=True)).name == "aten.native_dropout"
    assert reference_works(lambda: F.dropout(q, 0.5, training=False)) == []
    assert one(lambda: F.rms_norm(q, (64,))).programs == 2 * 4 * 128


def test_gathers_read_what_they_gather() -> None:
    table, index = meta(100_000, 64), meta(32, dtype=torch.long)
    assert one(lambda: F.embedding(index, table)).read_bytes == 32 * 64 * 4 + 32 * 8
    loss = reference_works(lambda: F.cross_entropy(meta(32, 100_000), index))
    assert loss[-1].read_bytes == 32 * 32 + 32 * 8


def test_special_functions_have_a_unit_of_their_own() -> None:
    x = meta(100)
    assert one(lambda: torch.exp(x)).flops["special"] == 100
    assert "special" not in one(lambda: torch.relu(x)).flops
    assert one(lambda: meta(100, dtype=torch.int32) + 1).flops == {"int": 100}


def test_work_on_the_host_is_left_out_when_a_device_is_named() -> None:
    works: list[Work] = []
    with AtenCounter(works.append, device="meta"):
        torch.ones(3) + 1
        torch.relu(meta(4))
    assert [work.name for work in works] == ["aten.relu"]


def test_what_needs_values_is_refused_by_torch() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        reference_works(lambda: meta(3).sum().item())


def test_the_counter_leaves_results_alone() -> None:
    x = torch.randn(4, 8)
    with AtenCounter(lambda work: None):
        y = F.dropout(torch.softmax(x, 1), 0.0) @ x.t()
    assert torch.equal(y, torch.softmax(x, 1) @ x.t())


@pytest.mark.parametrize(
    ("forward", "k"),
    [
        (lambda: meta(8, 512) @ meta(512, 4), 512),
        (lambda: nn.Linear(300, 4, device="meta")(meta(2, 300)), 300),
        (lambda: F.conv2d(meta(1, 16, 8, 8), meta(4, 16, 3, 3)), 144),
        (lambda: F.conv2d(meta(1, 16, 8, 8), meta(16, 4, 3, 3), groups=4), 36),
        (lambda: F.conv_transpose2d(meta(1, 16, 8, 8), meta(16, 4, 3, 3)), 144),
        (lambda: meta(4, 100).sum(1), 100),
        (lambda: meta(4, 100).mean(), 400),
        (lambda: torch.softmax(meta(4, 7, 100), 1), 7),
        (lambda: F.layer_norm(meta(4, 6, 10), (6, 10)), 60),
        (lambda: F.group_norm(meta(2, 8, 5), 4), 10),
        (lambda: F.batch_norm(meta(6, 3, 5), None, None, training=True), 30),
        (lambda: meta(4, 100).cumsum(0), 4),
        (lambda: F.mse_loss(meta(10, 10), meta(10, 10)), 100),
        (lambda: F.cross_entropy(meta(32, 50), meta(32, dtype=torch.long)), 50),
        (lambda: F.avg_pool2d(meta(1, 1, 8, 8), 4), 16),
        (lambda: torch.relu(meta(1000)), 1),
        (lambda: F.scaled_dot_product_attention(meta(1, 1, 70, 16), meta(1, 1, 90, 16), meta(1, 1, 90, 16)), 90),
    ],
)
def test_longest_reduction(forward: Callable[[], object], k: int) -> None:
    with LongestReduction() as longest:
        forward()
    assert longest.k == k
