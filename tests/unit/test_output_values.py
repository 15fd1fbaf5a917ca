"""Outputs that are no tensors are compared like any other: floats within a tolerance, all else exactly."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch

from kernelgrove.engine.evaluator.checking.correctness import describe_mismatch, floor
from kernelgrove.engine.evaluator.checking.values import compare_value, expect_value, sensitivities
from kernelgrove.engine.evaluator.inside.handover import describe
from kernelgrove.engine.evaluator.wire.structure import DESCRIBED, described, label
from kernelgrove.problems.outputs import COMPARED

LOWEST = floor(torch.float32, 1000)


def message(given: Any, own: Any, exact: Any = None, allclose: float | None = None, random: bool = False) -> str:
    """What an honest description of *given* comes to where *own* is expected."""
    expected = expect_value("['total']", own, exact, LOWEST, random)
    leaves = describe([("['total']", given)])
    return describe_mismatch(leaves, 1, [expected]) or compare_value(*leaves[0][2:], expected, allclose).message


@pytest.mark.parametrize(
    "value", [3, True, None, "mean", b"x", 1 + 2j, 0.25, numpy.int64(3), numpy.float32(0.25), "a" * 500]
)
def test_the_same_value_passes(value: Any):
    assert message(value, value) == ""


@pytest.mark.parametrize(
    ("given", "own"),
    [(-5, 3), (1, True), (True, 1), (None, 0), ("sum", "mean"), ("a" * 499 + "b", "a" * 500), (0.0, 12.5), ("1", 1)],
)
def test_another_value_or_kind_is_wrong(given: Any, own: Any):
    assert "expected" in message(given, own) and "output['total']" in message(given, own)


def test_a_float_may_differ_as_far_as_a_tensor_might():
    torch.manual_seed(0)
    x = torch.rand(1000)
    own, exact = float(x.sum()), float(x.double().sum())
    other = float(x.flip(0).cumsum(0)[-1])  # one after the other: honest, and rarely the same to the last bit
    assert other != own and message(other, own, exact) == "" and message(other, own) == ""
    assert "tolerance" in message(own * (1 + 1e-4), own, exact)
    assert message(own * (1 + 1e-4), own, exact, allclose=1e-2) == ""
    assert message(512, 512.0, 512.0) == "" and message(Fraction(1, 2), 0.5, 0.5) == ""
    for odd in (float("nan"), float("inf"), 0.0):
        assert message(odd, own, exact)


def test_a_sum_in_which_terms_cancel_is_held_to_its_terms():
    torch.manual_seed(0)
    (x,) = inputs = [torch.randn(4000) * 1000]

    def forward(given: list[Any]) -> dict[str, Any]:
        return {"y": given[0], "total": float(given[0].sum()), "count": 4000}

    scales = sensitivities(forward, inputs, forward(inputs))
    assert scales.keys() == {"['total']"} and 0.3 < scales["['total']"] / float(x.norm()) < 3
    own, exact = float(x.sum()), float(x.double().sum())
    expected = expect_value("", own, exact, floor(torch.float32, 4000), False, scales["['total']"])
    for order in (x.flip(0), x.sort().values, x[torch.randperm(4000)]):
        assert compare_value("float", repr(float(order.cumsum(0)[-1])), expected).message == ""
    assert compare_value("float", repr(own + 4000 * 1e-3), expected).message


def test_what_a_random_reference_returns_beside_its_tensors_must_be_of_its_kind():
    assert message(0.3, 0.7, random=True) == "" and message(float("nan"), 0.7, random=True)
    assert (
        message("0.3", 0.7, random=True)
        and "no number" in compare_value("float", "1.0; DROP", expect_value("", 0.7, None, LOWEST, True)).message
    )


def test_a_tensor_where_a_number_is_expected_is_told():
    assert message(torch.tensor(0.5), 0.5) == "output['total'] is a tensor, expected the float 0.5"


def test_labels_are_short_ascii_and_tell_texts_apart():
    assert label("größe") == "gr\\xf6\\xdfe"
    assert len(label("π" * 9000)) <= 100 and label("π" * 9000) != label("π" * 8999 + "x")
    assert described(object())[1] is None


def test_references_return_no_more_than_a_worker_describes():
    assert COMPARED == DESCRIBED


def test_a_random_value_of_another_kind_is_no_answer():
    """Of one of the same kind any will do."""
    expected = expect_value("", 7, None, LOWEST, True)
    assert not compare_value("int", "8", expected).message
    assert compare_value("str", "'8'", expected).message == "output is a str, expected the int 7"
    assert not compare_value("int", "1", expect_value("", 0.7, None, LOWEST, True)).message
