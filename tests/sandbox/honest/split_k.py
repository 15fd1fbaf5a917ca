# problem: linear
# runs: both
# does: Splits the sum over programs, then adds the parts in a second kernel: no atomics.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def parts(x_ptr, w_ptr, p_ptr, M, N, K, SPAN, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    part = tl.program_id(2)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, SPAN, BK):
        k = part * SPAN + start + tl.arange(0, BK)
        there = (k < K) & (start + tl.arange(0, BK) < SPAN)
        x = tl.load(x_ptr + rows[:, None] * K + k[None, :], mask=(rows[:, None] < M) & there[None, :], other=0.0)
        w = tl.load(w_ptr + columns[None, :] * K + k[:, None], mask=(columns[None, :] < N) & there[:, None], other=0.0)
        total += tl.dot(x, w, input_precision="ieee")
    at = part * M * N + rows[:, None] * N + columns[None, :]
    tl.store(p_ptr + at, total, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def add(p_ptr, b_ptr, y_ptr, count, N, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(b_ptr + at % N, mask=at < count, other=0.0)
    for part in tl.static_range(PARTS):
        total += tl.load(p_ptr + part * count + at, mask=at < count, other=0.0)
    tl.store(y_ptr + at, tl.maximum(total, 0.0), mask=at < count)


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)

    def forward(self, x):
        (m, k), n = x.shape, self.linear.out_features
        span = triton.cdiv(triton.cdiv(k, 4), 16) * 16
        partial = torch.empty(4, m, n, device=x.device)
        y = torch.empty(m, n, device=x.device)
        parts[(triton.cdiv(m, 16), triton.cdiv(n, 16), 4)](
            x, self.linear.weight, partial, m, n, k, span, BM=16, BN=16, BK=16
        )
        add[(triton.cdiv(m * n, 256),)](partial, self.linear.bias, y, m * n, n, PARTS=4, BLOCK=256)
        return y
