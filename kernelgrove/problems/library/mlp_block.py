"""Two matrix products with an activation between them, and a residual at the end."""

import torch
from torch import nn
from torch.nn import functional as F

rows = 2048
width = 1024
hidden = 4096

SIZES = {
    "full": {"rows": 2048, "width": 1024, "hidden": 4096},
    "small": {"rows": 35, "width": 43, "hidden": 75},
}


class Model(nn.Module):
    """Two-layer perceptron with GELU and a residual connection."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        update: torch.Tensor = self.down(F.gelu(self.up(x)))
        return x + update


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(rows, width)]


def get_init_inputs() -> list[object]:
    return [width, hidden]
