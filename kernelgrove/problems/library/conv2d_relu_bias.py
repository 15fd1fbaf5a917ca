"""A bias after the activation cannot be folded into the convolution's own."""

import torch
from torch import nn

batch = 64
channels = 48
filters = 96
height = 64
width = 80
kernel = 3

SIZES = {
    "full": {"batch": 64, "channels": 48, "filters": 96, "height": 64, "width": 80},
    "small": {"batch": 2, "channels": 5, "filters": 7, "height": 11, "width": 13},
}


class Model(nn.Module):
    """Convolution, ReLU, then a bias a channel."""

    def __init__(self, channels: int, filters: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
        self.bias = nn.Parameter(torch.randn(filters, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)) + self.bias


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(batch, channels, height, width)]


def get_init_inputs() -> list[object]:
    return [channels, filters, kernel]
