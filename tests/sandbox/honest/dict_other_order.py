# problem: named
# runs: both
# does: The same keys in another order: dictionaries that Python calls equal.
# accept: ok
# provenance: library

import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        y = x.clamp_min(0)
        return {"sum": y.double().sum().item(), "largest": y.max().item(), "rows": len(x), "positive": y}
