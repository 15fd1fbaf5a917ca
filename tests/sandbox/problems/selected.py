"""An output whose shape hangs on the values."""

import torch
from torch import nn

rows = 512
columns = 300

SIZES = {
    "full": {"rows": 512, "columns": 300},
    "small": {"rows": 12, "columns": 64},
}


class Model(nn.Module):
    """The elements above one, in order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 1]


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns)]


def get_init_inputs() -> list[object]:
    return []
