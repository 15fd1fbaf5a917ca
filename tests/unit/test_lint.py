"""Advice on a candidate's text: with its line, on what is there, and silent on honest code."""

from __future__ import annotations

import pytest

from kernelgrove.engine.evaluator.lint import lint

HEAD = "import torch\nimport triton\nimport triton.language as tl\n\n\n"
KERNEL = HEAD + (
    "@triton.jit\n"
    "def double(x_ptr, y_ptr, n, BLOCK: tl.constexpr):\n"
    "    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
    "    tl.store(y_ptr + at, 2 * tl.load(x_ptr + at, mask=at < n), mask=at < n)\n\n\n"
    "class ModelNew(torch.nn.Module):\n"
    "    def forward(self, x):\n"
    "        y = torch.empty_like(x)\n"
    "        double[(triton.cdiv(x.numel(), 256),)](x, y, x.numel(), BLOCK=256)\n"
    "        return y\n"
)
RETURN, EMPTY = "        return y", "        y = torch.empty_like(x)"


def test_an_honest_kernel_gets_no_advice():
    assert lint(KERNEL) == []


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("mask=at < n), mask=at < n)", "mask=at < n))"), 9, "tl.store has no mask"),
        (("tl.load(x_ptr + at, mask=at < n)", "tl.load(x_ptr + at)"), 9, "tl.load has no mask"),
        (("2 * tl.load(x_ptr + at, mask=at < n)", "tl.sum(tl.load(x_ptr + at, mask=at < n))"), 9, "no other="),
        (("2 * tl.load(x_ptr + at, mask=at < n)", "tl.dot(x_ptr, x_ptr)"), 9, "TF32"),
        ((RETURN, "        return y * x.sum().item()"), 16, "item() waits for the GPU"),
        (
            (EMPTY, f"        torch.cuda.synchronize()\n{EMPTY}"),
            14,
            "sync",
        ),
        (
            (RETURN, f"        torch.allclose = lambda *a, **k: True\n{RETURN}"),
            16,
            "assigns to torch.allclose",
        ),
        ((RETURN, f"        self.kept[x.data_ptr()] = y\n{RETURN}"), 16, "data_ptr"),
        ((RETURN, f"        setattr(torch.cuda, 'synchronize', None)\n{RETURN}"), 16, "setattr"),
        (
            (RETURN, f"        import gc\n        gc.get_objects()\n{RETURN}"),
            17,
            "other objects' memory",
        ),
    ],
)
def test_what_is_probably_wrong_is_named_with_its_line(change: tuple[str, str], line: int, says: str):
    assert change[0] in KERNEL
    advice = lint(KERNEL.replace(*change, 1))
    assert any(text.startswith(f"line {line}: ") and says in text for text in advice), advice


def test_a_fallback_to_pytorch_is_told():
    body = (
        "        try:\n            double[(1,)](x, x, 1, BLOCK=256)\n"
        "        except Exception:\n            return torch.mul(x, 2)\n"
    )
    code = KERNEL.replace("        y = torch.empty_like(x)\n", body + "        y = torch.empty_like(x)\n")
    assert any("falls back to PyTorch" in text for text in lint(code))


@pytest.mark.parametrize("code", ["def f(:", "x" * 100_000 + " = " + "-" * 5000 + "1", "\0", "(" * 300])
def test_what_cannot_be_read_gets_none(code: str):
    assert lint(code) == []
