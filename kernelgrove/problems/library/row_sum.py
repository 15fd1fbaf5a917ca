"""Reads much, writes little: bandwidth, and how rows are split over programs."""

import torch
from torch import nn

rows = 16384
columns = 10000

SIZES = {
    "full": {"rows": 16384, "columns": 10000},
    "small": {"rows": 13, "columns": 1337},
}


class Model(nn.Module):
    """Sum of each row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sum(x, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
