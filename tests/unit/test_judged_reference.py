"""The reference as the judge holds it: which variants of the inputs it allows, and what would pass for its answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from kernelgrove.engine.evaluator.checking import judged_reference
from kernelgrove.engine.evaluator.checking.correctness import compare
from kernelgrove.engine.evaluator.checking.judged_reference import JudgedReference
from kernelgrove.engine.evaluator.checking.references import References
from kernelgrove.engine.evaluator.checking.tensors import close
from kernelgrove.engine.evaluator.timing.rounds import Noise
from kernelgrove.errors import ProblemError
from kernelgrove.model import Instance

HEAD = "import torch\nimport torch.nn as nn\n\n\nclass Model(nn.Module):\n"
TAIL = "\n\ndef get_inputs():\n    return [torch.{draw}]\n\n\ndef get_init_inputs():\n    return []\n"


def judged(body: str, draw: str = "randn(24, 64)", budget: int = 1 << 28) -> JudgedReference:
    source = HEAD + "\n".join(f"    {line}" for line in body.splitlines()) + TAIL.format(draw=draw)
    return JudgedReference(Instance("p", "d", "full", source, "full", source), "cpu", "default", budget)


SOFTMAX = "def forward(self, x):\n    return torch.softmax(x, -1)"
NORM = (
    "def __init__(self):\n    super().__init__()\n    self.norm = nn.LayerNorm(64)\n\n"
    "def forward(self, x):\n    return self.norm(x)"
)


def names(reference: JudgedReference) -> list[str]:
    return [variant.name for variant, _ in reference.variants(0)]


def test_every_variant_that_the_problem_allows_is_judged():
    assert names(judged(SOFTMAX)) == [
        "inputs times 1e-3",
        "inputs times 1e3",
        "negated inputs",
        "inputs centred on zero",
        "inputs of zeros",
        "inputs of 0.5",
    ]


def test_a_variant_whose_reference_is_not_finite_is_left_out():
    found = names(judged("def forward(self, x):\n    return torch.log(x)", "rand(24, 64) + 0.5"))
    assert "negated inputs" not in found and "inputs of zeros" not in found and "inputs times 1e3" in found


def test_ties_of_flat_inputs_are_nobodys_mistake():
    assert not any(
        name.startswith("inputs of") for name in names(judged("def forward(self, x):\n    return x.argmax(-1)"))
    )


def test_honest_rounding_of_what_should_be_zero_passes():
    """On constant inputs a norm's output is rounding noise: errors are then relative to the ordinary outputs."""
    reference = judged(NORM)
    (case,) = [case for variant, case in reference.variants(0) if variant.name == "inputs of 0.5"]
    (expected,) = case.expected
    noise = torch.full((24, 64), 2e-6)
    assert expected.exact is not None and not compare((expected.exact + noise).float(), expected).message
    assert compare((expected.exact + 0.01).float(), expected).message


def test_rounding_near_zero_passes_on_small_inputs():
    """tanh written as 2 * sigmoid(2x) - 1 loses digits near zero that it never had to have."""
    reference = judged("def forward(self, x):\n    return torch.tanh(x)")
    ((_, case),) = [pair for pair in reference.variants(0) if pair[0].name == "inputs times 1e-3"]
    got = 2 * torch.sigmoid(2 * case.masters[0]) - 1
    assert not compare(got, case.expected[0]).message
    assert compare(torch.zeros_like(got), case.expected[0]).message


def test_outputs_whose_shape_depends_on_values_do_not_break_the_judge():
    reference = judged("def forward(self, x):\n    return x[x > 0]")
    assert list(reference.variants(0)) == [] or all(
        [e.spec for e in case.expected] == [e.spec for e in reference.case(0).expected]
        for _, case in reference.variants(0)
    )
    assert reference.fresh_case(0).expected


def test_an_ill_conditioned_variant_is_left_out():
    body = "def forward(self, x):\n    return torch.cumsum(torch.sin(x * 1e4), -1)"
    assert "inputs times 1e3" not in names(judged(body))


@pytest.mark.parametrize(
    ("body", "weakness"),
    [
        ("def forward(self, x):\n    return torch.relu(x) * 0", "zeros"),
        ("def forward(self, x):\n    return x * 0 + 3", "one constant"),
        ("def forward(self, x):\n    return x * 0 + torch.arange(64.0)", "another seed"),
        ("def forward(self, x):\n    return torch.cat([x, torch.zeros(8, 64)])", "tail"),
    ],
)
def test_a_problem_that_can_be_passed_without_doing_it_is_told(body: str, weakness: str):
    assert any(weakness in line for line in judged(body).weaknesses(None))
    assert judged(SOFTMAX).weaknesses(None) == []


def test_a_loose_tolerance_can_make_a_problem_degenerate():
    wide = judged(SOFTMAX, "rand(24, 640)")
    assert wide.weaknesses(None) == [] and any("zeros" in line for line in wide.weaknesses(1e-2))


def test_the_last_draw_changes_weights_that_every_seed_leaves_alike():
    reference = judged(NORM)
    plain, disturbed = dict(reference.weights(1).state), dict(reference.weights(2).state)
    assert bool((plain["norm.weight"] == 1).all()) and float(disturbed["norm.weight"].std()) > 0.05


def test_a_reference_that_changes_from_call_to_call_is_known():
    counting = (
        "def __init__(self):\n    super().__init__()\n    self.register_buffer('n', torch.zeros(1))\n\n"
        "def forward(self, x):\n    self.n += 1\n    return x * self.n"
    )
    assert judged(counting).stateful and not judged(NORM).stateful


def test_an_element_that_matters_shows():
    half = judged("def forward(self, x):\n    return x[:12].sum(-1)")
    assert half.shows(0, 5) and not half.shows(0, 23 * 64)


DRAWN = (
    "def __init__(self):\n    super().__init__()\n"
    "    self.all = nn.ParameterList(torch.randn(200) for _ in range(100))\n\n"
    "def forward(self, x):\n    return x + self.all[0].sum()"
)


def test_references_in_two_threads_draw_what_they_draw_alone():
    """The generators are the process's: weights that another thread's seed got into could not be drawn again."""
    drawing, other = judged(DRAWN).reference, judged("def forward(self, x):\n    return x * 2")
    alone, done = drawing.make(7, "cpu").state_dict(), threading.Event()

    def compute() -> None:
        while not done.is_set():
            other.fresh_case(0)

    with ThreadPoolExecutor(1) as threads:
        computing = threads.submit(compute)
        try:
            for _ in range(40):
                beside = drawing.make(7, "cpu").state_dict()
                assert all(torch.equal(beside[name], alone[name]) for name in alone)
        finally:
            done.set()
        computing.result()


def test_no_case_is_there_twice():
    """One that is in somebody's hands is not computed again where the budget lets none be kept: of a large problem
    several would not fit."""
    reference = judged(SOFTMAX, budget=0)
    held = reference.case(0)
    reference.case(1)
    reference.forget()
    assert reference.case(0) is held


def test_all_references_together_keep_no_more_than_their_budget():
    one = judged(SOFTMAX).case(0).bytes
    references = References("cpu", 4 * one)
    given = [judged(f"{SOFTMAX} * {number}").instance for number in range(1, 5)]
    first, *others = [references.get(replace(i, digest=str(n)), "default") for n, i in enumerate(given)]
    for reference in (first, *others):
        reference.case(0)
        reference.case(1)
    assert [r.kept_bytes for r in (first, *others)] == [2 * one] * 4
    references.get(replace(given[3], digest="3"), "default")
    assert [r.kept_bytes for r in (first, *others)] == [0, 0, 2 * one, 2 * one]


def test_memory_that_is_short_now_is_not_the_problems_fault(monkeypatch: pytest.MonkeyPatch):
    reference = judged(SOFTMAX)

    def short(*_: object) -> None:
        raise ProblemError("p: get_inputs() needs more memory than there is.") from torch.OutOfMemoryError("6 GiB")

    monkeypatch.setattr(reference.reference, "inputs", short)
    with pytest.raises(torch.OutOfMemoryError, match="6 GiB"):
        reference.fresh_inputs()


def test_it_is_known_whether_outputs_resize():
    assert not judged(SOFTMAX).resizes
    assert judged("def forward(self, x):\n    return x[x > 0]").resizes


@pytest.mark.parametrize(
    ("body", "draw", "bears"),
    [
        (SOFTMAX, "randn(24, 64)", True),
        ("def forward(self, x):\n    return torch.acosh(x)", "rand(24, 64) + 1.0", False),
        ("def forward(self, x):\n    assert float(x.min()) == 1\n    return x + 1", "ones(24, 64)", False),
        ("def forward(self, x):\n    return torch.linalg.cholesky(x)", "ones(8, 8) + torch.eye(8) * 0.01", False),
        ("def forward(self, x):\n    return torch.linalg.cholesky(x)", "eye(8) * 2 + 0.1", True),
        ("def forward(self, x):\n    return torch.log(x)", "randn(24, 64)", True),
    ],
)
def test_inputs_are_varied_only_where_the_reference_takes_that(body: str, draw: str, bears: bool):
    """What it does not take would be the candidate's fault, or end the judge. A reference with numbers that are none
    has nothing to lose."""
    reference = judged(body, draw)
    assert reference.bears(Noise("cpu").vary) is bears


def test_memory_that_a_candidate_takes_loosens_nothing(monkeypatch: pytest.MonkeyPatch):
    """Without fp64 a tolerance is four times as wide, and there are no variants."""
    reference = judged(NORM)
    assert reference.case(0).exact and not judged(NORM).known and reference.known

    def starved(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    with monkeypatch.context() as short:
        short.setattr(judged_reference, "exact_forward", starved)
        with pytest.raises(torch.OutOfMemoryError):
            reference.case(1)
        with pytest.raises(torch.OutOfMemoryError):
            next(reference.variants(0))
        never = judged(NORM)
        assert not never.case(0).exact, "one that never had as much is compared with PyTorch's own result"
        reference._budget = 1 << 10
        assert not reference.case(2).exact, "of a large problem an honest candidate may leave no more"
        reference._budget = 1 << 30
    assert reference.case(1).exact and len(names(reference)) == 6, "and nothing of that is remembered"


def test_a_case_that_was_never_whole_is_not_known(monkeypatch: pytest.MonkeyPatch):
    reference = judged(NORM)

    def short(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(judged_reference, "sensitivities", short)
    with pytest.raises(torch.OutOfMemoryError):
        reference.case(0)
    assert not reference.known, "it is the problem that is too large, and no candidate"


def test_nothing_is_close_to_nothing():
    assert close(torch.empty(0, 3), torch.empty(0, 3))
