"""Random outputs: other honest noise passes whatever blocks it comes in; noise that was not computed does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from kernelgrove.engine.evaluator.checking.correctness import Expected, compare, expect_random
from kernelgrove.engine.evaluator.checking.randomness import DRAWS, real

torch.manual_seed(0)
X, IMAGES, FEW = torch.randn(32, 256), torch.randn(4, 16, 12, 12), torch.randn(2, 8, 16)
WEIGHT, LARGE = torch.randn(256, 64), torch.randn(256, 512)

Draw = Callable[[], torch.Tensor]


def dropped_paths(x: torch.Tensor) -> torch.Tensor:
    return x * (torch.rand(x.shape[0], *[1] * (x.dim() - 1)) > 0.3)


HONEST: dict[str, Draw] = {
    "dropout": lambda: functional.dropout(torch.tanh(X), 0.5),
    "hardly any": lambda: functional.dropout(torch.tanh(X), 0.0005),
    "channels": lambda: functional.dropout2d(IMAGES, 0.5),
    "samples": lambda: dropped_paths(X),
    "two samples": lambda: dropped_paths(FEW),
    "all or nothing": lambda: FEW * (torch.rand(()) > 0.5),
    "shared by the rows": lambda: X * (torch.rand(1, 256) > 0.5),
    "added": lambda: X + torch.randn_like(X),
    "before a product": lambda: functional.dropout(X, 0.5) @ WEIGHT,
    "before a softmax": lambda: torch.softmax(functional.dropout(X @ WEIGHT, 0.2), -1),
    "indices": lambda: torch.multinomial(torch.softmax(X, -1), 4),
    "complex": lambda: torch.fft.fft(functional.dropout(X, 0.5)),
    "one number": lambda: torch.rand(()),
}


def expected(draw: Draw) -> Expected:
    found = expect_random("", draw(), 256, "none")
    assert found.draws is not None
    for _ in range(DRAWS):
        found.draws.add(draw())
    return found


def verdict(found: Expected, first: torch.Tensor, second: torch.Tensor) -> str:
    assert found.draws is not None
    return compare(first, found).message or found.draws.repeated(real(first), real(second))


@pytest.mark.parametrize("name", HONEST)
def test_another_draw_passes(name: str):
    draw = HONEST[name]
    for seed in range(5):
        torch.manual_seed(seed)
        found = expected(draw)
        for _ in range(4):
            assert verdict(found, draw(), draw()) == ""


def test_the_very_same_noise_passes_up_to_rounding():
    torch.manual_seed(3)
    found = expected(HONEST["dropout"])
    torch.manual_seed(3)
    assert compare(functional.dropout(torch.tanh(X), 0.5) * (1 + 2e-7), found).message == ""


MASK = (torch.rand(32, 256) > 0.5) * 2.0
CHEATS: dict[str, tuple[Draw, Draw, str]] = {
    "noise of the right spread": (
        HONEST["dropout"],
        lambda: functional.dropout(torch.tanh(torch.randn_like(X)), 0.5),
        "in common",
    ),
    "noise of the right spread, added": (HONEST["added"], lambda: torch.randn_like(X) * 2**0.5, "correlation"),
    "another product": (
        HONEST["before a product"],
        lambda: functional.dropout(torch.randn_like(X), 0.5) @ WEIGHT,
        "correlation",
    ),
    "no noise": (HONEST["before a product"], lambda: X @ WEIGHT, "standard deviation"),
    "zeros": (HONEST["dropout"], lambda: torch.zeros_like(X), "standard deviation"),
    "lower precision": (HONEST["dropout"], lambda: functional.dropout(torch.tanh(X).half(), 0.5).float(), "in common"),
    "a row left out": (
        HONEST["dropout"],
        lambda: torch.cat([functional.dropout(torch.tanh(X[:-1]), 0.5), MASK[-1:] * 0.3]),
        "in common with another draw is uneven",
    ),
    "half the columns left out": (
        lambda: functional.dropout(torch.tanh(LARGE), 0.5),
        lambda: torch.cat([2 * torch.tanh(LARGE)[:, :256], 0 * LARGE[:, 256:]], 1),
        "share of zeros is uneven",
    ),
    "one mask for all calls": (HONEST["dropout"], lambda: torch.tanh(X) * MASK, "its noise repeats"),
    "one half of the terms": (HONEST["before a product"], lambda: 2 * X[:, :128] @ WEIGHT[:128], "its noise repeats"),
    "not finite": (HONEST["dropout"], lambda: torch.full_like(X, float("nan")), "NaN"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_what_was_not_computed_does_not_pass(name: str):
    honest, cheat, says = CHEATS[name]
    torch.manual_seed(1)
    assert says in verdict(expected(honest), cheat(), cheat())
