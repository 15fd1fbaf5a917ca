"""Kernels of known cost, from a few microseconds to tens of milliseconds, as problems with their candidates."""

from __future__ import annotations

from dataclasses import dataclass

_PROBLEM = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, {names}):
        return {expression}


def get_inputs():
    return [{inputs}]


def get_init_inputs():
    return []
"""

_SCALE = """
import torch
import triton
import triton.language as tl


@triton.jit
def scale_add(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_ptr + at, mask=inside)
    tl.store(y_ptr + at, x * 2.0 + 1.0, mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        scale_add[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
        return y
"""

_SOFTMAX = """
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_rows(x_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < columns
    x = tl.load(x_ptr + row * columns + offsets, mask=inside, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(y_ptr + row * columns + offsets, e / tl.sum(e, axis=0), mask=inside)


class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        softmax_rows[(x.shape[0],)](x, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]), num_warps=8)
        return y
"""

_MATMUL = """
import torch


class ModelNew(torch.nn.Module):
    def forward(self, a, b):
        return a @ b
"""


@dataclass(frozen=True)
class Kernel:
    """One problem and a right candidate for it."""

    name: str
    problem: str
    candidate: str


def _scale(power: int) -> Kernel:
    problem = _PROBLEM.format(names="x", expression="x * 2.0 + 1.0", inputs=f"torch.randn(1 << {power})")
    return Kernel(f"scale_add 2^{power}", problem, _SCALE)


def _softmax(rows: int, columns: int) -> Kernel:
    inputs = f"torch.randn({rows}, {columns})"
    problem = _PROBLEM.format(names="x", expression="torch.softmax(x, -1)", inputs=inputs)
    return Kernel(f"softmax {rows} x {columns}", problem, _SOFTMAX)


def _matmul(size: int) -> Kernel:
    inputs = f"torch.randn({size}, {size}), torch.randn({size}, {size})"
    return Kernel(f"matmul {size}", _PROBLEM.format(names="a, b", expression="a @ b", inputs=inputs), _MATMUL)


#: Twenty, from about 2 µs to about 50 ms on an H200.
KERNELS = (
    *(_scale(power) for power in (12, 18, 20, 21, 22, 23, 24, 25, 26, 28, 30)),
    *(_softmax(*shape) for shape in ((1024, 4096), (4096, 8192), (16384, 16384))),
    *(_matmul(size) for size in (512, 1024, 2048, 4096, 8192, 10752)),
)
