"""The reference changes its own input."""

import torch
from torch import nn

rows = 1500
columns = 700

SIZES = {
    "full": {"rows": 1500, "columns": 700},
    "small": {"rows": 25, "columns": 70},
}


class Model(nn.Module):
    """Double the input where it lies, and give its row sums."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return x.sum(dim=1)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
