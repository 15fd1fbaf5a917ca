# problem: layer_norm
# runs: both
# does: A layer norm that applies the weight and the bias, which begin as ones and zeros.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def norm(x_ptr, w_ptr, b_ptr, y_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0.0)
    off = tl.where(inside, x - tl.sum(x, axis=0) / columns, 0.0)
    scale = tl.rsqrt(tl.sum(off * off, axis=0) / columns + eps)
    w = tl.load(w_ptr + at, mask=inside, other=0.0)
    b = tl.load(b_ptr + at, mask=inside, other=0.0)
    tl.store(y_ptr + row * columns + at, off * scale * w + b, mask=inside)


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.norm = torch.nn.LayerNorm(columns)

    def forward(self, x):
        y = torch.empty_like(x)
        norm[(x.shape[0],)](
            x, self.norm.weight, self.norm.bias, y, x.shape[1], self.norm.eps, BLOCK=triton.next_power_of_2(x.shape[1])
        )
        return y
