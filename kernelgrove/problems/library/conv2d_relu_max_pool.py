"""Three quarters of what the convolution computes is thrown away by the pooling."""

import torch
from torch import nn
from torch.nn import functional as F

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
    """Convolution, ReLU, then 2 x 2 max pooling."""

    def __init__(self, channels: int, filters: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(torch.relu(self.conv(x)), 2)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(batch, channels, height, width)]


def get_init_inputs() -> list[object]:
    return [channels, filters, kernel]
