# problem: chain
# runs: both
# does: Wraps its kernel in an autograd.Function with a backward.
# accept: ok
# provenance: custom

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


def launch(x, y):
    chain[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y


class Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = launch(x, torch.empty_like(x))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        y, slope = x, torch.ones_like(x)
        for _ in range(24):
            s = torch.sigmoid(y)
            slope, y = slope * s * (1 - s) + 1, s + x
        return grad * slope


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return Chain.apply(x)
