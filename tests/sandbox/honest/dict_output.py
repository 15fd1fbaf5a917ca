# problem: named
# runs: both
# does: A dictionary with a tensor, an integer and two floats, reduced in another order than PyTorch's.
# accept: ok
# provenance: mixed
# timed: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def positive(x_ptr, y_ptr, largest_ptr, sum_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    y = tl.maximum(tl.load(x_ptr + row * columns + at, mask=inside, other=0.0), 0.0)
    tl.store(y_ptr + row * columns + at, y, mask=inside)
    tl.store(largest_ptr + row, tl.max(y, axis=0))
    tl.store(sum_ptr + row, tl.sum(y, axis=0))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y, largest, total = torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)
        positive[(rows,)](x, y, largest, total, columns, BLOCK=triton.next_power_of_2(columns))
        return {"positive": y, "rows": rows, "largest": largest.max().item(), "sum": total.sum().item()}
