"""The correctness rule: what must pass, what must not, and what the message says."""

from __future__ import annotations

import pytest
import torch

from kernelgrove.engine.evaluator.checking.correctness import compare, describe_mismatch, expect, floor, tolerance


def softmax_case(rows: int = 64, columns: int = 1000):
    torch.manual_seed(0)
    x = torch.randn(rows, columns)
    own, exact = torch.softmax(x, -1), torch.softmax(x.double(), -1)
    return x, expect("", own, exact, columns, "none")


def test_own_result_and_other_summation_orders_pass():
    x, expected = softmax_case()
    assert compare(torch.softmax(x, -1), expected).message == ""
    exponent = torch.exp(x - x.max(-1, keepdim=True).values)
    total = torch.zeros(64, 1)
    for part in exponent.split(37, dim=1):  # sequential in blocks, as a tiled kernel adds
        total = total + part.sum(-1, keepdim=True)
    assert compare(exponent / total, expected).message == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lower_precision_than_allowed_fails(dtype):
    x, expected = softmax_case()
    assert "differ" in compare(torch.softmax(x.to(dtype), -1).float(), expected).message


def test_tf32_matmul_fails_strict_and_passes_where_it_is_allowed():
    torch.manual_seed(1)
    a, b = torch.randn(48, 512), torch.randn(512, 40)
    exact = a.double() @ b.double()

    def rounded(t: torch.Tensor) -> torch.Tensor:  # 10 bits of mantissa, as a TF32 tensor core reads its operands
        return ((t.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    got = (rounded(a).double() @ rounded(b).double()).float()
    assert compare(got, expect("", a @ b, exact, 512, "none")).message
    assert not compare(got, expect("", a @ b, exact, 512, "tf32")).message


def test_message_names_the_element_the_values_and_where():
    _, expected = softmax_case()
    assert expected.exact is not None
    got = expected.exact.float()
    got[63] = 0
    message = compare(got, expected).message
    assert "output[63, " in message and "is 0, expected" in message
    assert "1000 of 64000" in message and "row 63 of 64" in message
    got = expected.exact.float()
    got[3, 5] = float("nan")
    assert "output[3, 5] is NaN" in compare(got, expected).message


def test_one_small_row_is_judged_by_its_own_scale():
    exact = torch.ones(4, 64, dtype=torch.float64)
    exact[2] *= 1e-6
    expected = expect("", exact.float(), exact, 1, "none")
    got = exact.float()
    got[2] *= 1.01
    assert "row 2 of 4" in compare(got, expected).message


def test_nan_and_infinity_must_be_where_the_reference_has_them():
    exact = torch.ones(2, 40, dtype=torch.float64)
    exact[0, 1], exact[1, 1] = float("inf"), float("nan")
    expected = expect("", exact.float(), exact, 1, "none")
    assert not compare(exact.float(), expected).message
    assert compare(torch.ones(2, 40), expected).message


def test_integers_are_exact():
    wanted = torch.arange(10).reshape(2, 5)
    expected = expect("[1]", wanted, wanted, 1, "none")
    assert not compare(wanted.clone(), expected).message
    got = wanted.clone()
    got[1, 2] = 0
    assert compare(got, expected).message == "output[1][1, 2] is 0, expected 7; 1 of 10 elements differ"


def test_kernelbench_rule_on_request():
    x, expected = softmax_case()
    near = torch.softmax(x, -1) + 5e-3
    assert not compare(near, expected, allclose=1e-2).message
    assert compare(near, expected, allclose=1e-4).message


def test_tolerance_is_bounded_both_ways():
    lowest = floor(torch.float32, 1024)
    assert tolerance(0.0, lowest) == lowest
    assert tolerance(1.0, lowest) == 16 * lowest


def test_mismatch_of_form_is_described():
    _, expected = softmax_case()
    assert "shape (64, 999)" in describe_mismatch([["", [64, 999], "float32", None]], 1, [expected])
    assert "dtype float16" in describe_mismatch([["", [64, 1000], "float16", None]], 1, [expected])
    assert "2 outputs, expected 1" in describe_mismatch([], 2, [expected])


def test_a_very_long_sum_does_not_excuse_leaving_most_of_it_out():
    """Of ten million elements a quarter gives their norm to 1e-4 of it."""
    torch.manual_seed(2)
    x = torch.randn(1 << 22)
    exact = torch.linalg.vector_norm(x.double()).reshape(1)
    own = torch.linalg.vector_norm(x).reshape(1)
    partly = torch.linalg.vector_norm(x[: 1 << 20]).reshape(1) * 2
    assert compare(own, expect("", own, exact, 1 << 26, "none")).message == ""
    assert "differ" in compare(partly, expect("", own, exact, 1 << 26, "none")).message
    blocks = x.square().reshape(-1, 1 << 10).sum(1).sum().sqrt().reshape(1)
    assert compare(blocks, expect("", own, exact, 1 << 26, "none")).message == ""


def test_an_fp64_result_is_not_had_from_fp32():
    torch.manual_seed(3)
    a, b = torch.randn(64, 512, dtype=torch.float64), torch.randn(512, 64, dtype=torch.float64)
    expected = expect("", a @ b, a @ b, 512, "none")
    halves = a[:, :256] @ b[:256] + a[:, 256:] @ b[256:]
    assert compare(halves, expected).message == ""
    assert "differ" in compare((a.float() @ b.float()).double(), expected).message
    chained = torch.sigmoid(a) * (1 + 8 * torch.finfo(torch.float64).eps)
    assert compare(chained, expect("", torch.sigmoid(a), torch.sigmoid(a), 1, "none")).message == ""


def test_what_overflows_opens_nothing_beside_it():
    exact = torch.full((3, 40), 2.0, dtype=torch.float64)
    exact[0, 3] = 7e4  # more than fp16 holds
    own = exact.half()
    assert own[0, 3].isinf()
    expected = expect("", own, exact, 1, "none")
    assert compare(own, expected).message == ""
    wrong = own.clone()
    wrong[0, 4:] = -5.0
    assert "36 of 120" in compare(wrong, expected).message
    clamped = own.clone()
    clamped[0, 3] = 65504.0
    assert "1 of 120" in compare(clamped, expected).message


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16])
def test_types_that_pytorch_only_stores_are_compared_too(dtype: torch.dtype):
    values = torch.arange(1, 81).reshape(2, 40)
    own = values.to(torch.float32).to(dtype) if dtype.is_floating_point else values.to(dtype)
    expected = expect("", own, own.double() if dtype.is_floating_point else None, 1, "none")
    assert compare(own, expected).message == ""
    wrong = own.clone()
    wrong.view(torch.uint8)[1, 7] ^= 0x40
    assert "1 of 80" in compare(wrong, expected).message
