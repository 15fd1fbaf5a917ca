# problem: selected
# runs: both
# does: An output whose shape hangs on the values.
# accept: ok
# provenance: library

import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.masked_select(x, x.gt(1))
