# problem: linear
# runs: both
# does: Transposes its weight once and keeps it, as long as the weight is the same version of the same tensor.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def product(x_ptr, w_ptr, b_ptr, y_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        k = start + inner
        x = tl.load(x_ptr + rows[:, None] * K + k[None, :], mask=(rows[:, None] < M) & (k[None, :] < K), other=0.0)
        w = tl.load(
            w_ptr + k[:, None] * N + columns[None, :], mask=(k[:, None] < K) & (columns[None, :] < N), other=0.0
        )
        total += tl.dot(x, w, input_precision="ieee")
    total += tl.load(b_ptr + columns, mask=columns < N, other=0.0)[None, :]
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(y_ptr + rows[:, None] * N + columns[None, :], tl.maximum(total, 0.0), mask=inside)


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)
        self._key, self._turned = None, None

    def turned(self):
        weight = self.linear.weight
        key = (weight.data_ptr(), weight._version)
        if key != self._key:
            self._key, self._turned = key, weight.detach().t().contiguous()
        return self._turned

    def forward(self, x):
        (m, k), n = x.shape, self.linear.out_features
        y = torch.empty(m, n, device=x.device, dtype=x.dtype)
        grid = (triton.cdiv(m, 32), triton.cdiv(n, 32))
        product[grid](x, self.turned(), self.linear.bias, y, m, n, k, BM=32, BN=32, BK=32)
        return y
