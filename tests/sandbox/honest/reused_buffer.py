# problem: chain
# runs: both
# does: Writes every call's result into one output buffer that it keeps.
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


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = None

    def forward(self, x):
        if self.out is None or self.out.shape != x.shape:
            self.out = torch.empty_like(x)
        return launch(x, self.out)
