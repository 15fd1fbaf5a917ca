# problem: linear
# runs: both
# does: cuBLAS does all of it.
# accept: ok
# provenance: library

import torch


class ModelNew(torch.nn.Module):
    def __init__(self, inner, columns):
        super().__init__()
        self.linear = torch.nn.Linear(inner, columns)

    def forward(self, x):
        return torch.addmm(self.linear.bias, x, self.linear.weight.t()).relu_()
