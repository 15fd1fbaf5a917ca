"""Numbers, a flag, None and a list among the inputs."""

import torch
from torch import nn

rows = 1024
columns = 640

SIZES = {
    "full": {"rows": 1024, "columns": 640},
    "small": {"rows": 16, "columns": 100},
}


class Model(nn.Module):
    """``x * factor`` plus an optional shift, clamped where the flag says so."""

    def forward(
        self, x: torch.Tensor, factor: float, clamp: bool, more: list[torch.Tensor | None]
    ) -> list[torch.Tensor]:
        y = x * factor
        for shift in more:
            if shift is not None:
                y = y + shift
        return [y.clamp(-1, 1) if clamp else y]


def get_inputs() -> list[object]:
    return [torch.randn(rows, columns), 1.75, True, [torch.randn(columns), None]]


def get_init_inputs() -> list[object]:
    return []
