# problem: batch_norm
# runs: both
# does: Folds running statistics, weight and bias into one scale and shift at every call.
# accept: ok
# provenance: custom

import torch
import triton
import triton.language as tl


@triton.jit
def norm(x_ptr, mean_ptr, var_ptr, w_ptr, b_ptr, y_ptr, count, columns, eps, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    c = at % columns
    scale = tl.load(w_ptr + c, mask=inside, other=0.0) * tl.rsqrt(tl.load(var_ptr + c, mask=inside, other=1.0) + eps)
    shift = tl.load(b_ptr + c, mask=inside, other=0.0) - tl.load(mean_ptr + c, mask=inside, other=0.0) * scale
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    tl.store(y_ptr + at, tl.maximum(x * scale + shift, 0.0), mask=inside)


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(columns)

    def forward(self, x):
        n, y = self.norm, torch.empty_like(x)
        norm[(triton.cdiv(x.numel(), 512),)](
            x, n.running_mean, n.running_var, n.weight, n.bias, y, x.numel(), x.shape[1], n.eps, BLOCK=512
        )
        return y
