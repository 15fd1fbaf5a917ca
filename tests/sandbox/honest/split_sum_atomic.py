# problem: row_sum
# runs: both
# does: Several programs a row that add their part with atomics into zeroed memory: the order varies.
# accept: ok
# provenance: custom


import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice


@triton.jit
def add(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    tl.atomic_add(y_ptr + row, tl.sum(libdevice.tanh(x), axis=0))


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y = torch.zeros(rows, device=x.device)
        add[(rows, triton.cdiv(columns, 64))](x, y, columns, BLOCK=64)
        return y
