# problem: transposed
# runs: both
# does: Returns a contiguous tensor where the reference returns a view: equal shape, other strides.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def turn(x_ptr, y_ptr, rows, columns, BLOCK: tl.constexpr):
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    x = tl.load(x_ptr + r * columns + c, mask=(r < rows) & (c < columns), other=0.0)
    out_r = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    out_c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    tl.store(y_ptr + out_r * rows + out_c, tl.trans(x) * 2 + 1, mask=(out_r < columns) & (out_c < rows))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y = torch.empty(columns, rows, device=x.device, dtype=x.dtype)
        turn[(triton.cdiv(rows, 32), triton.cdiv(columns, 32))](x, y, rows, columns, BLOCK=32)
        return y
