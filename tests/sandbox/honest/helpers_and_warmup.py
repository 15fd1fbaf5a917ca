# problem: chain
# runs: both
# does: Kernels that call kernels, a launch in the constructor to warm up, a configuration kept by lru_cache.
# accept: ok
# provenance: custom

from functools import cache

import torch
import triton
import triton.language as tl


@triton.jit
def gate(y, x):
    return tl.sigmoid(y) + x


@triton.jit
def chain(x_ptr, y_ptr, count, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    y = x
    for _ in tl.static_range(STEPS):
        y = gate(y, x)
    tl.store(y_ptr + at, y, mask=at < count)


@cache
def launch_shape(count):
    block = 512 if count < 1 << 20 else 1024
    return (triton.cdiv(count, block),), block


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self(torch.ones(4, 16, device="cuda"))

    def forward(self, x):
        y = torch.empty_like(x)
        grid, block = launch_shape(x.numel())
        chain[grid](x, y, x.numel(), STEPS=24, BLOCK=block)
        return y
