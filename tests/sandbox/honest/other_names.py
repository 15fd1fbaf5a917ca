# problem: row_scale
# runs: both
# does: Draws the same weights from the seed under another name.
# accept: ok
# provenance: custom
# timed: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, w_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    w = tl.load(w_ptr + at, mask=at < columns, other=0.0)
    tl.store(y_ptr + row * columns + at, x * tl.rsqrt(tl.sum(x * x, axis=0) / columns + 1e-6) * w, mask=at < columns)


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.randn(columns))

    def forward(self, x):
        y = torch.empty_like(x)
        scale[(x.shape[0],)](x, self.gain, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y
