"""Bound by arithmetic at its full size, so that a time does not hang on where the inputs lie."""

import torch
from torch import nn

rows = 8192
columns = 2048

SIZES = {
    "full": {"rows": 8192, "columns": 2048},
    "small": {"rows": 19, "columns": 130},
}


class Model(nn.Module):
    """A pointwise chain: twenty-four times ``y = sigmoid(y) + x``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for _ in range(24):
            y = torch.sigmoid(y) + x
        return y


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
