# problem: integers
# runs: both
# does: Integer sums, an argmax and a boolean mask from one kernel.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def look(x_ptr, keep_ptr, sum_ptr, place_ptr, mask_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0)
    keep = tl.load(keep_ptr + row * columns + at, mask=inside, other=0) != 0
    tl.store(sum_ptr + row, tl.sum(tl.where(keep, x, 0), axis=0))
    seen = tl.where(inside, x, -(1 << 30)).to(tl.int32)
    tl.store(place_ptr + row, tl.argmax(seen, axis=0).to(tl.int64))
    tl.store(mask_ptr + row * columns + at, (keep & (x > 0)).to(tl.int8), mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x, keep):
        rows, columns = x.shape
        total, place = x.new_empty(rows), torch.empty(rows, dtype=torch.int64, device=x.device)
        mask = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
        look[(rows,)](x, keep.view(torch.int8), total, place, mask, columns, BLOCK=triton.next_power_of_2(columns))
        return total, place, mask.view(torch.bool)
