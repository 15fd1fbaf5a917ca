"""A dictionary that holds a tensor, an integer and floats."""

import torch
from torch import nn

rows = 1024
columns = 500

SIZES = {
    "full": {"rows": 1024, "columns": 500},
    "small": {"rows": 15, "columns": 110},
}


class Model(nn.Module):
    """The positive part, how many rows it has, its largest element and its sum."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        y = torch.relu(x)
        return {"positive": y, "rows": x.shape[0], "largest": y.max().item(), "sum": y.sum().item()}


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
