# problem: expanded
# runs: both
# does: Repeats a column by a view of stride 0, as the reference does.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def weighted(x_ptr, s_ptr, y_ptr, columns, x_row, x_column, s_row, s_column, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * x_row + at * x_column, mask=at < columns, other=0.0)
    s = tl.load(s_ptr + row * s_row + at * s_column, mask=at < columns, other=0.0)
    tl.store(y_ptr + row, tl.sum(x * s, axis=0))


class ModelNew(torch.nn.Module):
    def forward(self, x, scale):
        y = x.new_empty(x.shape[0], 1)
        block = triton.next_power_of_2(x.shape[1])
        weighted[(x.shape[0],)](x, scale, y, x.shape[1], *x.stride(), *scale.stride(), BLOCK=block)
        return y.expand(-1, 8)
