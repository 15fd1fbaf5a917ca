# problem: moments
# runs: both
# does: Welford's update over tiles of a row: one pass over memory for mean and variance.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def merge(mean_a, square_a, count_a, mean_b, square_b, count_b):
    count = count_a + count_b
    share = tl.where(count == 0.0, 0.0, count_b / count)
    delta = mean_b - mean_a
    return mean_a + delta * share, square_a + square_b + delta * delta * count_a * share, count


@triton.jit
def welford(x_ptr, y_ptr, mean_ptr, var_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    means, squares, counts = (
        tl.zeros((BLOCK,), tl.float32),
        tl.zeros((BLOCK,), tl.float32),
        tl.zeros((BLOCK,), tl.float32),
    )
    for start in range(0, columns, BLOCK):
        inside = start + at < columns
        x = tl.load(x_ptr + row * columns + start + at, mask=inside, other=0.0)
        seen = counts + inside.to(tl.float32)
        delta = tl.where(inside, x - means, 0.0)
        means += tl.where(inside, delta / tl.maximum(seen, 1.0), 0.0)
        squares += tl.where(inside, delta * (x - means), 0.0)
        counts = seen
    mean, square, count = tl.reduce((means, squares, counts), 0, merge)
    var = square / count
    scale = tl.rsqrt(var + 1e-5)
    for start in range(0, columns, BLOCK):
        inside = start + at < columns
        x = tl.load(x_ptr + row * columns + start + at, mask=inside, other=0.0)
        tl.store(y_ptr + row * columns + start + at, (x - mean) * scale, mask=inside)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        rows, columns = x.shape
        y, mean, var = torch.empty_like(x), x.new_empty(rows), x.new_empty(rows)
        welford[(rows,)](x, y, mean, var, columns, BLOCK=64)
        return y, mean, var
