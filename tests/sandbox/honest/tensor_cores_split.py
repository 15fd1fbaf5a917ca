# problem: linear
# runs: both
# does: Three TF32 products of high and low parts: fp32's accuracy from tensor cores.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def product(x_ptr, w_ptr, b_ptr, y_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        x = tl.load(x_ptr + rows[:, None] * K + k[None, :], mask=(rows[:, None] < M) & (k[None, :] < K), other=0.0)
        w = tl.load(
            w_ptr + columns[None, :] * K + k[:, None], mask=(columns[None, :] < N) & (k[:, None] < K), other=0.0
        )
        total = tl.dot(x, w, total, input_precision="tf32x3")
    total = tl.maximum(total + tl.load(b_ptr + columns, mask=columns < N, other=0.0)[None, :], 0.0)
    tl.store(y_ptr + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)

    def forward(self, x):
        (m, k), n = x.shape, self.linear.out_features
        y = torch.empty(m, n, device=x.device)
        product[(triton.cdiv(m, 16), triton.cdiv(n, 16))](
            x, self.linear.weight, self.linear.bias, y, m, n, k, BM=16, BN=16, BK=32
        )
        return y
