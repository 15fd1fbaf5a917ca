"""Few outputs, each a long sum: without splitting the inner dimension most of the GPU is idle."""

import torch
from torch import nn

rows = 256
inner = 131072
columns = 320

SIZES = {
    "full": {"rows": 256, "inner": 131072, "columns": 320},
    "small": {"rows": 19, "inner": 1100, "columns": 23},
}


class Model(nn.Module):
    """Matrix product with a very long inner dimension."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, inner), torch.randn(inner, columns)]


def get_init_inputs() -> list[object]:
    return []
