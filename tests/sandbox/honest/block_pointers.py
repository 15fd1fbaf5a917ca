# problem: row_scale
# runs: both
# does: Block pointers with boundary checks, two rows a program.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, w_ptr, y_ptr, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0) * ROWS
    x_block = tl.make_block_ptr(x_ptr, (rows, columns), (columns, 1), (first, 0), (ROWS, BLOCK), (1, 0))
    y_block = tl.make_block_ptr(y_ptr, (rows, columns), (columns, 1), (first, 0), (ROWS, BLOCK), (1, 0))
    x = tl.load(x_block, boundary_check=(0, 1), padding_option="zero")
    at = tl.arange(0, BLOCK)
    w = tl.load(w_ptr + at, mask=at < columns, other=0.0)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / columns + 1e-6)
    tl.store(y_block, x * scale[:, None] * w[None, :], boundary_check=(0, 1))


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(columns))

    def forward(self, x):
        rows, columns = x.shape
        y = torch.empty_like(x)
        scale[(triton.cdiv(rows, 2),)](x, self.weight, y, rows, columns, ROWS=2, BLOCK=triton.next_power_of_2(columns))
        return y
