# problem: transposed
# runs: both
# does: Stores untransposed and returns the view, as the reference does.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    tl.store(y_ptr + at, x * 2 + 1, mask=at < count)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        scale[(triton.cdiv(x.numel(), 512),)](x, y, x.numel(), BLOCK=512)
        return y.t()
