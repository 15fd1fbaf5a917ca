# problem: small_steps
# runs: both
# does: One launch a step: bound by launches, the twin of the batching exploit.
# accept: ok
# provenance: custom
# timed: yes

import torch
import triton
import triton.language as tl


@triton.jit
def step(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0.0)
    y = (x - 0.5 * (tl.sum(x, axis=0) / columns)) * 1.1
    tl.store(y_ptr + row * columns + at, y, mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y = torch.empty_like(x)
        for number in range(6):
            step[(rows,)](x if number == 0 else y, y, columns, BLOCK=triton.next_power_of_2(columns))
        return y
