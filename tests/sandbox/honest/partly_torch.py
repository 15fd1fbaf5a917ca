# problem: linear
# runs: both
# does: cuBLAS for the product, Triton for what follows it.
# accept: ok
# provenance: mixed

import torch
import triton
import triton.language as tl


@triton.jit
def bias_relu(y_ptr, b_ptr, count, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    y = tl.load(y_ptr + at, mask=inside, other=0.0) + tl.load(b_ptr + at % N, mask=inside, other=0.0)
    tl.store(y_ptr + at, tl.maximum(y, 0.0), mask=inside)


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)

    def forward(self, x):
        y = torch.mm(x, self.linear.weight.t())
        bias_relu[(triton.cdiv(y.numel(), 256),)](y, self.linear.bias, y.numel(), y.shape[1], BLOCK=256)
        return y
