"""An RMS norm with weights that are drawn, not ones."""

import torch
from torch import nn

rows = 4096
columns = 1100

SIZES = {
    "full": {"rows": 4096, "columns": 1100},
    "small": {"rows": 21, "columns": 300},
}


class Model(nn.Module):
    """Each row by its inverse root mean square and a weight."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return [columns]
