"""The weights are drawn, not left at one and zero, so that a kernel that skips them is seen."""

import torch
from torch import nn
from torch.nn import functional as F

rows = 16384
columns = 5120

SIZES = {
    "full": {"rows": 16384, "columns": 5120},
    "small": {"rows": 13, "columns": 1337},
}


class Model(nn.Module):
    """Layer norm over the last dimension, with weight and bias."""

    def __init__(self, columns: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.rand(columns) + 0.5)
        self.bias = nn.Parameter(torch.randn(columns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, columns) * 2.0 + 0.5]


def get_init_inputs() -> list[object]:
    return [columns, 1e-5]
