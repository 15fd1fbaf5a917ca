# problem: softmax
# runs: both
# does: A fixed grid of programs that take rows in turn.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def softmax(x_ptr, y_ptr, rows, columns, PROGRAMS, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    for row in range(tl.program_id(0), rows, PROGRAMS):
        x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=-float("inf"))
        e = tl.exp(x - tl.max(x, axis=0))
        tl.store(y_ptr + row * columns + at, e / tl.sum(e, axis=0), mask=at < columns)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y = torch.empty_like(x)
        programs = min(rows, 2 * torch.cuda.get_device_properties(x.device).multi_processor_count)
        softmax[(programs,)](x, y, rows, columns, programs, BLOCK=triton.next_power_of_2(columns))
        return y
