# problem: brain
# runs: both
# does: bf16 in memory, fp32 in registers, GELU's tanh through a sigmoid.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def fused(x_ptr, scale_ptr, shift_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    v = x * tl.load(scale_ptr + at, mask=inside, other=0.0).to(tl.float32)
    v = v.to(tl.bfloat16).to(tl.float32) + tl.load(shift_ptr + at, mask=inside, other=0.0).to(tl.float32)
    v = v.to(tl.bfloat16).to(tl.float32)
    inner = 1.5957691216057308 * (v + 0.044715 * v * v * v)
    tl.store(y_ptr + row * columns + at, (v * tl.sigmoid(inner)).to(tl.bfloat16), mask=inside)


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(columns, dtype=torch.bfloat16))
        self.shift = torch.nn.Parameter(torch.randn(columns, dtype=torch.bfloat16))

    def forward(self, x):
        rows, columns = x.shape
        y = torch.empty_like(x)
        fused[(rows,)](x, self.scale, self.shift, y, columns, BLOCK=triton.next_power_of_2(columns))
        return y
