"""Batch norm in training mode: its statistics are over the rows of the matrix product."""

import torch
from torch import nn

rows = 4096
inner = 1024
columns = 3072

SIZES = {
    "full": {"rows": 4096, "inner": 1024, "columns": 3072},
    "small": {"rows": 35, "inner": 75, "columns": 43},
}


class Model(nn.Module):
    """Linear layer, batch norm over the rows, then swish."""

    def __init__(self, inner: int, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, columns)
        self.norm = nn.BatchNorm1d(columns)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.linear(x))
        return y * torch.sigmoid(y)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, inner)]


def get_init_inputs() -> list[object]:
    return [inner, columns]
