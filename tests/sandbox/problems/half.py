"""fp16 in and out."""

import torch
from torch import nn

rows = 2048
columns = 1000

SIZES = {
    "full": {"rows": 2048, "columns": 1000},
    "small": {"rows": 18, "columns": 140},
}


class Model(nn.Module):
    """SiLU times the input, in fp16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(x) * x


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns).half()]


def get_init_inputs() -> list[object]:
    return []
