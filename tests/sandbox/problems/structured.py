"""Inputs whose structure invites a branch: a causal mask of zeros and minus infinity, positive values."""

import torch
from torch import nn

rows = 1024
columns = 1024

SIZES = {
    "full": {"rows": 1024, "columns": 1024},
    "small": {"rows": 33, "columns": 45},
}


class Model(nn.Module):
    """ReLU of the values plus the mask's exponential."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * torch.exp(mask)


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns), torch.full((rows, columns), float("-inf")).triu(1)]


def get_init_inputs() -> list[object]:
    return []
