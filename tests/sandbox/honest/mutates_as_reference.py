# problem: in_place
# runs: both
# does: Changes its input where the reference changes it.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def double_and_sum(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = 2 * tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    tl.store(x_ptr + row * columns + at, x, mask=at < columns)
    tl.store(y_ptr + row, tl.sum(x, axis=0))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = x.new_empty(x.shape[0])
        double_and_sum[(x.shape[0],)](x, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y
