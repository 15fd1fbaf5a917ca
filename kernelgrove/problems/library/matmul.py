"""Bound by arithmetic; no two dimensions are equal."""

import torch
from torch import nn

rows = 2048
inner = 4096
columns = 3072

SIZES = {
    "full": {"rows": 2048, "inner": 4096, "columns": 3072},
    "small": {"rows": 35, "inner": 75, "columns": 43},
}


class Model(nn.Module):
    """Matrix product of two rectangles."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, inner), torch.randn(inner, columns)]


def get_init_inputs() -> list[object]:
    return []
