# problem: chain
# runs: both
# does: One Triton kernel, nothing special: the twin that timed exploits are held against.
# accept: ok
# provenance: custom
# timed: yes

import torch
import triton
import triton.language as tl


@triton.jit
def chain(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    y = x
    for _ in range(24):
        y = tl.sigmoid(y) + x
    tl.store(y_ptr + at, y, mask=inside)


def launch(x, y):
    chain[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return launch(x, torch.empty_like(x))
