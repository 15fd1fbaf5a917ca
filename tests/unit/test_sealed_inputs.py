"""Inputs of timed calls that are not drawn are varied: every element, by little, by nothing that could be guessed."""

from __future__ import annotations

import torch

from kernelgrove.engine.evaluator.timing.rounds import Noise


def test_every_element_changes_by_up_to_a_tenth_and_keeps_its_sign():
    x = torch.randn(300, 40).t()  # not contiguous
    varied = Noise("cpu").vary([x, {"scale": torch.full((7,), 2.0, dtype=torch.bfloat16)}])
    ratio = varied[0] / x
    assert ratio.shape == x.shape and (ratio >= 0.899).all() and (ratio <= 1.101).all()
    assert ratio.unique().numel() > 5000 and varied[1]["scale"].dtype is torch.bfloat16


def test_no_two_are_varied_alike_and_the_rest_is_left():
    noise, x, index = Noise("cpu"), torch.ones(4096), torch.arange(5)
    seen = [noise.vary([x, index, 3]) for _ in range(20)]
    assert all(one[1] is index and one[2] == 3 for one in seen)
    assert len({one[0][0].item() for one in seen}) > 15
    assert not torch.equal(noise.vary([x])[0], Noise("cpu").vary([x])[0])


def test_fp8_is_varied_as_well():
    x = torch.linspace(1, 8, 512).to(torch.float8_e4m3fn)
    (varied,) = Noise("cpu").vary([x])
    assert varied.dtype == x.dtype and 0.2 < float((varied.float() != x.float()).float().mean()) < 1
