# problem: row_scale
# runs: both
# does: Computes into a wider, padded buffer and returns a slice of it.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, w_ptr, y_ptr, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    w = tl.load(w_ptr + at, mask=at < columns, other=0.0)
    tl.store(y_ptr + row * stride + at, x * tl.rsqrt(tl.sum(x * x, axis=0) / columns + 1e-6) * w)


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(columns))

    def forward(self, x):
        rows, columns = x.shape
        width = triton.next_power_of_2(columns)
        y = torch.empty(rows, width, device=x.device)
        scale[(rows,)](x, self.weight, y, columns, width, BLOCK=width)
        return y[:, :columns]
