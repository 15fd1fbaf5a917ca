# problem: chain
# runs: both
# does: Looks at one element on the host to choose how wide its blocks are, so that its calls cannot be queued.
# accept: ok
# timed: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def chain(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    y = x
    for _ in range(24):
        y = tl.sigmoid(y) + x
    tl.store(y_ptr + at, y, mask=inside)


def launch(x, y, block):
    chain[(triton.cdiv(x.numel(), block),)](x, y, x.numel(), BLOCK=block)
    return y


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return launch(x, torch.empty_like(x), 1024 if x[0, 0].item() > 0 else 512)
