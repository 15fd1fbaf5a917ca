"""Integer and boolean inputs and outputs."""

import torch
from torch import nn

rows = 2048
columns = 900

SIZES = {
    "full": {"rows": 2048, "columns": 900},
    "small": {"rows": 14, "columns": 75},
}


class Model(nn.Module):
    """Row sums of the kept elements, the place of each row's largest, and which elements are kept and positive."""

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return (x * keep).sum(dim=1), x.argmax(dim=1), keep & (x > 0)


def get_inputs() -> list[object]:
    return [torch.stack([torch.randperm(columns) - columns // 2 for _ in range(rows)]), torch.rand(rows, columns) > 0.3]


def get_init_inputs() -> list[object]:
    return []
