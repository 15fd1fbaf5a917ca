# problem: small_steps
# runs: both
# does: Two buffers of its own that it writes by turns, the last a copy.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def step(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    y = (x - 0.5 * (tl.sum(x, axis=0) / columns)) * 1.1
    tl.store(y_ptr + row * columns + at, y, mask=at < columns)


class ModelNew(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("work", torch.empty(0), persistent=False)

    def forward(self, x):
        rows, columns = x.shape
        if self.work.numel() != 2 * x.numel():
            self.work = torch.empty(2, rows, columns, device=x.device)
        source = x
        for number in range(6):
            step[(rows,)](source, self.work[number % 2], columns, BLOCK=triton.next_power_of_2(columns))
            source = self.work[number % 2]
        return source.clone()
