# problem: chain
# runs: both
# does: Asks for packages that may be missing, and does without.
# accept: ok
# provenance: custom

import torch

try:
    import apex_that_is_not_installed
except ImportError:
    apex_that_is_not_installed = None
try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise RuntimeError("this kernel needs triton") from error


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
        assert apex_that_is_not_installed is None
        return launch(x.contiguous(), torch.empty_like(x))
