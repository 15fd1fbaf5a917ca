# problem: structured
# runs: both
# does: Reads the mask although a program could guess it.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def masked(x_ptr, m_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    m = tl.load(m_ptr + at, mask=at < count, other=0.0)
    tl.store(y_ptr + at, tl.maximum(x, 0.0) * tl.exp(m), mask=at < count)


class ModelNew(torch.nn.Module):
    def forward(self, x, mask):
        y = torch.empty_like(x)
        masked[(triton.cdiv(x.numel(), 256),)](x, mask, y, x.numel(), BLOCK=256)
        return y
