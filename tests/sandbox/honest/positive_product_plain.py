# problem: positive_product
# runs: both
# does: cuBLAS in fp32, as the reference.
# accept: ok
# provenance: library
# timed: gpu

import torch


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        return torch.mm(a, b)
