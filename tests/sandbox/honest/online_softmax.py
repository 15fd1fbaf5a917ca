# problem: softmax
# runs: both
# does: Maximum and sum in one walk over tiles of a row, the quotient in a second.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def softmax(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    top, total = -float("inf"), 0.0
    for start in range(0, columns, BLOCK):
        x = tl.load(x_ptr + row * columns + start + at, mask=start + at < columns, other=-float("inf"))
        higher = tl.maximum(top, tl.max(x, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher), axis=0)
        top = higher
    for start in range(0, columns, BLOCK):
        x = tl.load(x_ptr + row * columns + start + at, mask=start + at < columns, other=-float("inf"))
        tl.store(y_ptr + row * columns + start + at, tl.exp(x - top) / total, mask=start + at < columns)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        softmax[(x.shape[0],)](x, y, x.shape[1], BLOCK=128)
        return y
