"""A matrix product whose epilogue can be done before the result is written."""

import torch
from torch import nn
from torch.nn import functional as F

rows = 2048
inner = 1536
columns = 5120

SIZES = {
    "full": {"rows": 2048, "inner": 1536, "columns": 5120},
    "small": {"rows": 35, "inner": 75, "columns": 43},
}


class Model(nn.Module):
    """Linear layer with bias, then GELU."""

    def __init__(self, inner: int, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.linear(x))


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, inner)]


def get_init_inputs() -> list[object]:
    return [inner, columns]
