# problem: moments
# runs: both
# does: Returns a list where the reference returns a tuple.
# accept: ok
# provenance: library

import torch


class ModelNew(torch.nn.Module):
    def forward(self, x):
        var, mean = torch.var_mean(x, dim=1, correction=0)
        return [(x - mean[:, None]) / (var + 1e-5).sqrt()[:, None], mean, var]
