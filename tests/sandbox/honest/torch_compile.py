# problem: row_scale
# runs: both
# does: Hands its own forward to torch.compile.
# accept: ok
# provenance: any

import torch


def scale_rows(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


class ModelNew(torch.nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(columns))
        self.compiled = torch.compile(scale_rows)

    def forward(self, x):
        return self.compiled(x, self.weight)
