"""Inputs of timed calls that are not drawn are varied: every element, by little, by nothing that could be guessed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator.timing import rounds
from kernelgrove.engine.evaluator.timing.rounds import Noise


def test_every_element_changes_by_up_to_a_fifth_and_keeps_its_sign():
    x = torch.randn(300, 40).t()  # not contiguous
    varied = Noise("cpu").vary([x, {"scale": torch.full((7,), 2.0, dtype=torch.bfloat16)}])
    ratio = varied[0] / x
    assert ratio.shape == x.shape and (ratio >= 0.809).all() and (ratio <= 1.101).all()
    assert ratio.unique().numel() > 5000 and varied[1]["scale"].dtype is torch.bfloat16


@pytest.mark.parametrize("shape", [(), (1,), (40, 500), (3, 0)])
def test_a_sum_of_many_elements_changes_too(shape: tuple[int, ...]):
    """The mean of factors around one is one: the answer to other inputs of the same draw would be within tolerance."""
    noise, x = Noise("cpu"), torch.ones(shape)
    varied = [noise.vary([x])[0] for _ in range(20)]
    assert all(each.shape == shape for each in varied)
    if x.numel():
        means = [each.mean().item() for each in varied]
        assert max(means) / min(means) > 1.02 and max(means) <= 1.11


def drawn(
    singly: bool, inputs: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch, bears: bool = True
) -> tuple[int, int]:
    """How many of eight sets of inputs were drawn, and how many draws of factors there were."""
    seen, made = [], []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(rounds, "Noise", lambda device: made.append(Noise(device)) or made[-1])
    reference = SimpleNamespace(fresh_inputs=lambda: seen.append(inputs()) or seen[-1], bears=lambda _: bears)
    case = SimpleNamespace(masters=[leaf for leaf in inputs() if isinstance(leaf, torch.Tensor)])
    sitting: Any = SimpleNamespace(reference=reference, bench=SimpleNamespace(device="cpu"), current=lambda _: case)
    assert len(list(rounds._draws(sitting, 8, singly))) == 8
    return len(seen), len([noise for noise in made if noise._drawn])


def test_a_call_that_goes_through_alone_tells_nothing_of_the_next_ones_inputs(monkeypatch: pytest.MonkeyPatch):
    """There is time between them: what is varied by one table of factors could be looked up."""

    def slowly() -> list[Any]:
        time.sleep(0.04)
        return [torch.randn(64)]

    def indices() -> list[Any]:
        time.sleep(0.04)
        return [torch.randint(0, 9, (64,))]

    assert drawn(False, lambda: [torch.randn(64)], monkeypatch) == (4, 1)
    assert drawn(True, lambda: [torch.randn(64)], monkeypatch) == (8, 8)
    assert drawn(True, slowly, monkeypatch) == (2, 8)
    assert drawn(True, indices, monkeypatch) == (8, 0)
    assert drawn(False, indices, monkeypatch)[0] == 2
    assert drawn(False, lambda: [torch.randn(64)], monkeypatch, bears=False) == (8, 0)
    assert drawn(True, slowly, monkeypatch, bears=False) == (8, 0)


def test_no_two_are_varied_alike_and_the_rest_is_left():
    noise, x, index = Noise("cpu"), torch.ones(4096), torch.arange(5)
    seen = [noise.vary([x, index, 3]) for _ in range(20)]
    assert all(one[1] is index and one[2] == 3 for one in seen)
    assert len({one[0][0].item() for one in seen}) > 15
    assert not torch.equal(noise.vary([x])[0], Noise("cpu").vary([x])[0])


def test_fp8_is_varied_as_well():
    x = torch.linspace(1, 8, 512).to(torch.float8_e4m3fn)
    (varied,) = Noise("cpu").vary([x])
    assert varied.dtype == x.dtype and float((varied.float() != x.float()).float().mean()) > 0.2
