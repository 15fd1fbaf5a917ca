"""An output that is not contiguous."""

import torch
from torch import nn

rows = 1500
columns = 700

SIZES = {
    "full": {"rows": 1500, "columns": 700},
    "small": {"rows": 25, "columns": 70},
}


class Model(nn.Module):
    """The transpose of twice the input, as a view."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 2 + 1).t()


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
