"""One mean and variance a sample and group of channels, over all of its pixels."""

import torch
from torch import nn
from torch.nn import functional as F

batch = 32
groups = 32
channels = 320
height = 64
width = 96

SIZES = {
    "full": {"batch": 32, "groups": 32, "channels": 320, "height": 64, "width": 96},
    "small": {"batch": 3, "groups": 4, "channels": 20, "height": 13, "width": 17},
}


class Model(nn.Module):
    """Group norm of an image batch, with a weight and bias a channel."""

    def __init__(self, groups: int, channels: int, eps: float) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.rand(channels) + 0.5)
        self.bias = nn.Parameter(torch.randn(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(batch, channels, height, width) * 1.5 + 0.25]


def get_init_inputs() -> list[object]:
    return [groups, channels, 1e-5]
