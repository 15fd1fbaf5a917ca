"""A layer norm whose weight is one and whose bias is zero under every seed."""

import torch
from torch import nn

rows = 2048
columns = 600

SIZES = {
    "full": {"rows": 2048, "columns": 600},
    "small": {"rows": 13, "columns": 90},
}


class Model(nn.Module):
    """Layer norm over the last dimension, as ``nn.LayerNorm`` begins."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return [columns]
