"""bf16 in and out, with weights."""

import torch
from torch import nn

rows = 2048
columns = 1000

SIZES = {
    "full": {"rows": 2048, "columns": 1000},
    "small": {"rows": 18, "columns": 140},
}


class Model(nn.Module):
    """Scale and shift of the columns, then GELU by its tanh form, in bf16."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(columns, dtype=torch.bfloat16))
        self.shift = nn.Parameter(torch.randn(columns, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x * self.scale + self.shift, approximate="tanh")


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns).bfloat16()]


def get_init_inputs() -> list[object]:
    return [columns]
