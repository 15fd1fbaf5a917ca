# problem: linear
# runs: both
# does: Programs in groups for L2, a masked tail, heuristics for the even case.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.heuristics({"EVEN": lambda args: args["K"] % args["BK"] == 0})
@triton.jit
def product(
    x_ptr,
    w_ptr,
    b_ptr,
    y_ptr,
    M,
    N,
    K,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN: tl.constexpr,
):
    down, across = tl.cdiv(M, BM), tl.cdiv(N, BN)
    group, within = tl.program_id(0) // (GROUP * across), tl.program_id(0) % (GROUP * across)
    height = tl.minimum(down - group * GROUP, GROUP)
    rows = (group * GROUP + within % height) * BM + tl.arange(0, BM)
    columns = (within // height) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, K, BK):
        there = k + start < K
        if EVEN:
            x = tl.load(x_ptr + rows[:, None] * K + (k + start)[None, :], mask=rows[:, None] < M, other=0.0)
            w = tl.load(w_ptr + columns[None, :] * K + (k + start)[:, None], mask=columns[None, :] < N, other=0.0)
        else:
            x = tl.load(
                x_ptr + rows[:, None] * K + (k + start)[None, :], mask=(rows[:, None] < M) & there[None, :], other=0.0
            )
            w = tl.load(
                w_ptr + columns[None, :] * K + (k + start)[:, None],
                mask=(columns[None, :] < N) & there[:, None],
                other=0.0,
            )
        total = tl.dot(x, w, total, input_precision="ieee")
    total = tl.maximum(total + tl.load(b_ptr + columns, mask=columns < N, other=0.0)[None, :], 0.0)
    tl.store(y_ptr + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)

    def forward(self, x):
        (m, k), n = x.shape, self.linear.out_features
        y = torch.empty(m, n, device=x.device)
        grid = (triton.cdiv(m, 16) * triton.cdiv(n, 16),)
        product[grid](x, self.linear.weight, self.linear.bias, y, m, n, k, BM=16, BN=16, BK=32, GROUP=4)
        return y
