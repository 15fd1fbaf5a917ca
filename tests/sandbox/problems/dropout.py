"""A random reference: no two runs give the same elements."""

import torch
from torch import nn

rows = 2048
columns = 800

SIZES = {
    "full": {"rows": 2048, "columns": 800},
    "small": {"rows": 37, "columns": 130},
}


class Model(nn.Module):
    """Half of tanh(x), chosen at random, doubled; the rest zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(torch.tanh(x), 0.5, training=True)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
