# problem: loss
# runs: both
# does: One number: per-row losses from one kernel, their mean from a second.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def rows_loss(x_ptr, class_ptr, loss_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=-float("inf"))
    top = tl.max(x, axis=0)
    picked = tl.load(x_ptr + row * columns + tl.load(class_ptr + row))
    tl.store(loss_ptr + row, tl.log(tl.sum(tl.exp(x - top), axis=0)) + top - picked)


@triton.jit
def mean(loss_ptr, out_ptr, rows, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.sum(tl.load(loss_ptr + at, mask=at < rows, other=0.0), axis=0) / rows)


class ModelNew(torch.nn.Module):
    def forward(self, logits, classes):
        rows, columns = logits.shape
        losses, out = logits.new_empty(rows), logits.new_empty(())
        rows_loss[(rows,)](logits, classes, losses, columns, BLOCK=triton.next_power_of_2(columns))
        mean[(1,)](losses, out, rows, BLOCK=triton.next_power_of_2(rows))
        return out
