# problem: half
# runs: both
# does: fp16 in memory, fp32 in registers.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def silu_square(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (x * x * tl.sigmoid(x)).to(tl.float16), mask=at < count)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        silu_square[(triton.cdiv(x.numel(), 512),)](x, y, x.numel(), BLOCK=512)
        return y
