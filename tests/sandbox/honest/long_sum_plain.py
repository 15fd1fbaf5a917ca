# problem: long_sum
# runs: both
# does: Walks along each row in one program: 8 of 132 multiprocessors are at work.
# accept: ok
# timed: gpu

import torch
import triton
import triton.language as tl


@triton.jit
def along(x_ptr, y_ptr, columns, apart, BLOCK: tl.constexpr):
    call = tl.program_id(1).to(tl.int64)
    x_ptr += call * apart + tl.program_id(0) * columns
    y_ptr += (call * tl.num_programs(0) + tl.program_id(0)) * columns
    carried = 0.0
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at, mask=at < columns, other=0.0)
        tl.store(y_ptr + at, tl.cumsum(x, 0) + carried, mask=at < columns)
        carried += tl.sum(x, 0)


def launch(x, y, calls=1, apart=0):
    along[(x.shape[0], calls)](x, y, x.shape[1], apart, BLOCK=1024, num_warps=4)
    return y


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return launch(x, torch.empty_like(x))
