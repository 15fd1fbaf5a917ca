"""A small output: few numbers carry the whole answer."""

import torch
from torch import nn

rows = 4096
columns = 1030

SIZES = {
    "full": {"rows": 4096, "columns": 1030},
    "small": {"rows": 7, "columns": 130},
}


class Model(nn.Module):
    """The sum of each row's hyperbolic tangents."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x).sum(dim=1)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
