"""A product long enough for rounding to show, on zero-mean inputs."""

import torch
from torch import nn

rows = 512
inner = 1024
columns = 768

SIZES = {
    "full": {"rows": 512, "inner": 1024, "columns": 768},
    "small": {"rows": 24, "inner": 96, "columns": 40},
}


class Model(nn.Module):
    """A linear layer and a ReLU."""

    def __init__(self, inner: int, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


def get_inputs() -> list[object]:
    return [torch.randn(rows, inner)]


def get_init_inputs() -> list[object]:
    return [inner, columns]
