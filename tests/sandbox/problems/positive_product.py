"""A long product of matrices without a negative element: lower precision hardly shows in what comes out."""

import torch
from torch import nn

rows = 512
inner = 16384
columns = 512

SIZES = {
    "full": {"rows": 512, "inner": 16384, "columns": 512},
    "small": {"rows": 24, "inner": 96, "columns": 40},
}


class Model(nn.Module):
    """Their product."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


def get_inputs() -> list[object]:
    return [torch.rand(rows, inner), torch.rand(inner, columns)]


def get_init_inputs() -> list[object]:
    return []
