"""Counts at full size against closed forms."""

from __future__ import annotations

import time

import torch
import triton
import triton.language as tl
from interpreter_cases import FACTS
from interpreter_cases_devices import raises
from interpreter_cases_kernels import (
    cross_entropy_kernel,
    descriptor_kernel,
    matmul_kernel,
    softmax_kernel,
    tuned_kernel,
)

from kernelgrove.engine.evaluator.interpreter import CountingLimit, NeedsValues, OutOfBounds, pretend
from kernelgrove.engine.evaluator.interpreter.counting import counting
from kernelgrove.engine.evaluator.interpreter.spans import Spans, intervals


def count(forward, **options):
    pretend(FACTS, "meta")
    works = []
    with counting(works.append, **options):
        forward()
    return works


def case_softmax_reads_and_writes_each_element_once():
    def forward():
        x = torch.empty(4096, 8000, device="cuda")
        y = torch.empty_like(x)
        softmax_kernel[(4096,)](x, y, 8000, 8000, BLOCK=8192, num_warps=8, num_stages=2)

    started = time.perf_counter()
    (work,) = count(forward)
    size = 4096 * 8000 * 4
    assert (work.read_bytes, work.write_bytes, work.requested_bytes) == (size, size, 2 * size)
    assert (work.programs, work.grid, work.num_warps, work.num_stages) == (4096, (4096, 1, 1), 8, 2)
    assert work.program_bytes == 2 * 8000 * 4
    rows, block = 4096, 8192
    assert work.flops["special"] == rows * 2 * block  # exp and division
    assert work.flops["fp32"] == rows * (block + 2 * (block - 1))  # subtraction, maximum, sum
    assert time.perf_counter() - started < 5


def matmul(M, N, K, BM, BN, BK, dtype=torch.float32):
    def forward():
        a = torch.empty(M, K, device="cuda", dtype=dtype)
        b = torch.empty(K, N, device="cuda", dtype=dtype)
        c = torch.empty(M, N, device="cuda", dtype=dtype)
        grid = (triton.cdiv(M, BM), triton.cdiv(N, BN))
        matmul_kernel[grid](a, b, c, M, N, K, *a.stride(), *b.stride(), BM=BM, BN=BN, BK=BK)

    return forward


def case_tiled_matmul_tells_requested_from_unique_bytes():
    M, N, K, BM, BN, BK = 1000, 700, 500, 128, 64, 32
    rows, columns, steps = triton.cdiv(M, BM), triton.cdiv(N, BN), triton.cdiv(K, BK)
    for dtype, size, unit in ((torch.float32, 4, "dot:tf32"), (torch.bfloat16, 2, "dot:bf16")):
        (work,) = count(matmul(M, N, K, BM, BN, BK, dtype))
        assert work.read_bytes == (M * K + K * N) * size and work.write_bytes == M * N * size
        assert work.requested_bytes == (columns * M * K + rows * K * N + M * N) * size
        assert work.flops[unit] == 2 * rows * BM * columns * BN * steps * BK


@triton.jit
def scaled_kernel(x_ptr, w_ptr, y_ptr, n, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, COLUMNS)
    tl.store(y_ptr + row * COLUMNS + at, tl.load(x_ptr + row * COLUMNS + at) * tl.load(w_ptr + at))


def case_what_every_program_reads_is_counted_once():
    def forward():
        x, w = torch.empty(3000, 1024, device="cuda"), torch.empty(8192, device="cuda")
        scaled_kernel[(3000,)](x, w, torch.empty_like(x), 3000, COLUMNS=1024)

    (work,) = count(forward)
    assert work.read_bytes == (3000 * 1024 + 1024) * 4 and work.requested_bytes == 3 * 3000 * 1024 * 4


def case_atomics_are_read_and_written():
    def forward():
        x, target = torch.empty(512, 1000, device="cuda"), torch.zeros(512, device="cuda", dtype=torch.int64)
        cross_entropy_kernel[(512,)](x, target, torch.zeros(1, device="cuda"), 1000, BLOCK=1024)

    (work,) = count(forward)
    assert work.write_bytes == 4 and work.read_bytes == 512 * 1000 * 4 + 512 * 8 + 4
    assert work.requested_bytes == 512 * (1000 * 4 + 8 + 4 + 4 + 4)


def case_descriptors_and_autotune_are_counted():
    from triton.tools.tensor_descriptor import TensorDescriptor

    def forward():
        x = torch.empty(100, 68, device="cuda")
        y = torch.empty_like(x)
        descriptor_kernel[(13, 5)](x, TensorDescriptor.from_tensor(y, [8, 16]), 100, 68, BM=8, BN=16)
        z = torch.empty(10_000, device="cuda")
        tuned_kernel[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](z, torch.empty_like(z), 10_000)

    first, second = count(forward)
    assert (first.read_bytes, first.write_bytes) == (100 * 68 * 4, 100 * 68 * 4)
    assert second.programs == triton.cdiv(10_000, 64) and second.num_warps == 8


def case_bounds_are_checked_at_full_size():
    def forward():
        x = torch.empty(70_000, 40_000, device="cuda")  # past 2^31 elements: int32 offsets wrap
        softmax_kernel[(70_000,)](x, torch.empty_like(x), 40_000, 40_000, BLOCK=65536)

    raises(OutOfBounds, "load in softmax_kernel, program (69999, 0, 0)", lambda: count(forward))


@triton.jit
def long_kernel(x_ptr, n):
    total = 0.0
    for i in range(n):
        total += tl.load(x_ptr + i)
    tl.store(x_ptr, total)


@triton.jit
def uneven_kernel(x_ptr, rows, COLUMNS: tl.constexpr):
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        for _ in range(row % 7):
            offsets = row * COLUMNS + tl.arange(0, COLUMNS)
            tl.store(x_ptr + offsets, tl.load(x_ptr + offsets) + 1.0)


def case_a_busy_machine_counts_the_same():
    def forward():
        x = torch.empty(5000, 1024, device="cuda")
        uneven_kernel[(600,)](x, 5000, COLUMNS=1024)

    first = count(forward)
    real, skipped = time.monotonic, [0.0]

    def slow():  # every look at the clock finds another tenth of a second gone
        skipped[0] += 0.1
        return real() + skipped[0]

    time.monotonic = slow
    try:
        again = count(forward, limit=1e9)
    finally:
        time.monotonic = real
    assert again == first


def case_a_program_too_long_says_so():
    def forward():
        long_kernel[(1,)](torch.empty(1 << 28, device="cuda"), 1 << 28)

    started = time.perf_counter()
    raises(CountingLimit, "counting long_kernel took more than 0.5 s", lambda: count(forward, limit=0.5))
    assert time.perf_counter() - started < 5


def case_values_on_the_host_mean_no_projection():
    reads = (
        lambda x: x.sum().item(),
        lambda x: float(x.max()),
        lambda x: x[x > 0],
        lambda x: x.cpu().numpy(),
        lambda x: x.tolist(),
        lambda x: torch.nonzero(x),
        lambda x: 1 if (x > 0).any() else 0,
    )
    for read in reads:
        error = raises(
            NeedsValues, "no projection: line", lambda read=read: count(lambda: read(torch.rand(9, device="cuda")))
        )
        assert "reads a value on the host" in str(error)
    raises(ValueError, "something else", lambda: count(lambda: (_ for _ in ()).throw(ValueError("something else"))))


def case_intervals():
    import numpy as np

    starts, ends = intervals(np.array([[0, 4, 8], [100, 104, 108]], np.uint64), 4)
    assert starts.tolist() == [0, 100] and ends.tolist() == [12, 112]
    starts, ends = intervals(np.array([8, 0, 4, 8, 40], np.uint64), 4)
    assert starts.tolist() == [0, 40] and ends.tolist() == [12, 44]
    spans = Spans()
    for low, high in ((0, 10), (5, 12), (20, 30), (12, 14)):
        spans.add(np.array([low]), np.array([high]))
    assert [part.tolist() for part in spans.merged()] == [[0, 20], [14, 30]] and spans.size() == 24
