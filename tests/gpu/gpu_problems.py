"""Problems that tests on a GPU share."""

from __future__ import annotations

from kernelgrove.model import Problem

_SCALED_RELU = """
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 3 + 1


def get_inputs():
    return [torch.randn({rows}, {columns})]


def get_init_inputs():
    return []
"""


def scaled_relu(rows: int, columns: int) -> Problem:
    return Problem("scaled_relu", _SCALED_RELU.format(rows=rows, columns=columns))
