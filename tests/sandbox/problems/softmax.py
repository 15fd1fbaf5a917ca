"""Rows longer than a block, for kernels that walk them."""

import torch
from torch import nn

rows = 1024
columns = 3000

SIZES = {
    "full": {"rows": 1024, "columns": 3000},
    "small": {"rows": 11, "columns": 210},
}


class Model(nn.Module):
    """Softmax over the last dimension."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, dim=-1)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
