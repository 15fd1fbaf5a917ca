# problem: dropout
# runs: both
# does: Draws its mask with Triton's own generator from a seed of the torch generator: other elements than
#   PyTorch's.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def drop(x_ptr, y_ptr, count, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    y = 2 * tl.sigmoid(2 * x) - 1
    tl.store(y_ptr + at, tl.where(tl.rand(seed, at) < 0.5, 2 * y, 0.0), mask=at < count)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        seed = torch.initial_seed() & 0x7FFFFFFF
        drop[(triton.cdiv(x.numel(), 512),)](x, y, x.numel(), seed, BLOCK=512)
        return y
