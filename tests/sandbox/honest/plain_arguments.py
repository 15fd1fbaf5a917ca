# problem: mixed_args
# runs: both
# does: Takes a float, a flag, None and a list as they come.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, shift_ptr, y_ptr, count, columns, factor, CLAMP: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    y = tl.load(x_ptr + at, mask=inside, other=0.0) * factor
    y += tl.load(shift_ptr + at % columns, mask=inside, other=0.0)
    if CLAMP:
        y = tl.minimum(tl.maximum(y, -1.0), 1.0)
    tl.store(y_ptr + at, y, mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x, factor, clamp, more):
        shift, none = more
        assert none is None
        y = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 256),)
        scale[grid](x, shift, y, x.numel(), x.shape[1], factor, CLAMP=bool(clamp), BLOCK=256)
        return [y]
