# problem: chain
# runs: both
# does: Works in place on memory of its own, which it made from a copy of the input.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def once(y_ptr, x_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    y = tl.load(y_ptr + at, mask=inside, other=0.0)
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    tl.store(y_ptr + at, tl.sigmoid(y) + x, mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = x.clone()
        for _ in range(24):
            once[(triton.cdiv(x.numel(), 1024),)](y, x, x.numel(), BLOCK=1024)
        return y
