# problem: moments
# runs: both
# does: Three outputs from one kernel, the variance in two passes over a row held in registers.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def moments(x_ptr, y_ptr, mean_ptr, var_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0.0)
    mean = tl.sum(x, axis=0) / columns
    off = tl.where(inside, x - mean, 0.0)
    var = tl.sum(off * off, axis=0) / columns
    tl.store(y_ptr + row * columns + at, off * tl.rsqrt(var + 1e-5), mask=inside)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y, mean, var = torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)
        moments[(rows,)](x, y, mean, var, columns, BLOCK=triton.next_power_of_2(columns))
        return y, mean, var
