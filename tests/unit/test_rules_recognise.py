"""What the rules recognise, what they leave to PyTorch, and that one program serves two sizes."""

from __future__ import annotations

import pytest
from rules_requests import Asker, of_library, of_text
from rules_texts import LEFT_ALONE, TEXTS, text

from kernelgrove.engine.proposers.rules.analysis import analyse
from kernelgrove.model import Instance, JobKind, Problem
from kernelgrove.problems.problem import library


@pytest.mark.parametrize("name", library())
def test_library_problems_are_one_segment_or_a_note(name: str) -> None:
    found = analyse(of_library(name)[1])
    if name.startswith("matmul"):
        assert not found.segments and "one matrix product" in found.problem
    else:
        assert len(found.segments) == (2 if name == "mlp_block" else 1), found.problem


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_not_recognised_gives_a_note_that_says_why_and_names_providers(name: str) -> None:
    source, reason = LEFT_ALONE[name]
    asker = Asker(of_text(name, source))
    for kind in (JobKind.IDEATE, JobKind.IMPLEMENT):
        answer = asker.ask(kind, count=3)
        assert not answer.ideas and answer.code is None
        assert answer.note.startswith("rules recognises nothing here to fuse (") and "\n" not in answer.note
        assert reason in answer.note and "--model openai:…, google:…, anthropic:…" in answer.note


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("group norm and relu", 1),
        ("softmax over channels", 1),
        ("linear, batch norm, swish", 1),
        ("cross entropy", 2),
        ("a block of a transformer", 5),
        ("globals, helpers and comments", 1),
        ("l1 and l2 normalisation", 2),
    ],
)
def test_chains_become_as_few_kernels_as_their_shapes_allow(name: str, kernels: int) -> None:
    source, mode = TEXTS[name]
    assert len(analyse(of_text(name, source, mode)[1]).segments) == kernels


def test_a_program_keeps_the_class_its_constructor_and_its_comments() -> None:
    source, _ = TEXTS["globals, helpers and comments"]
    code = Asker(of_text("gated", source)).code()
    assert "class ModelNew(nn.Module):" in code and "super(ModelNew, self).__init__()" in code
    assert "self.gate = Gate(width)  # the Model's only part" in code
    assert "x (torch.Tensor): Input tensor of shape" in code and "features = 257" in code
    assert "get_inputs" not in code and "batch_size = 16" not in code and "# Test code" not in code
    assert "fused_pointwise(x, self.gate.weight)" in code


def test_a_forward_calls_pytorch_for_what_is_left() -> None:
    source, _ = TEXTS["a block of a transformer"]
    forward = Asker(of_text("block", source)).code().rsplit("def forward", 1)[1]
    assert "self.qkv(" in forward and " @ " in forward and "self.mlp[0](" in forward
    assert "softmax(" not in forward.replace("softmax = fused", "")


def _two_sizes(source: str, small: str) -> Instance:
    problem = Problem("two", source)
    return Instance("two", problem.digest, "full", source, "small", small, "train")


def _scaled(size: int, forward: str, init: str) -> str:
    return text(forward, f"torch.randn(4, 6, {size})", init=init, init_args="n", values=str(size))


def test_a_constant_that_follows_the_size_is_read_off_the_module() -> None:
    forward = "return torch.softmax(x * self.scale, dim=-1).view(4, 6, self.heads, -1)"
    init = "self.n = n\nself.scale = n**-0.5\nself.heads = n // 8"
    instance = _two_sizes(_scaled(1024, forward, init), _scaled(40, forward, init))
    code = Asker((Problem("two", instance.source), instance)).code()
    assert "fused_rows(x, self.scale, self.heads)" in code and "torch.empty((x.shape[0], x.shape[1], heads," in code


def test_a_constant_whose_origin_does_not_show_is_refused() -> None:
    forward = "return x * (3.5 + len(self.table)) + 1"
    init = "self.table = [1] * (n // 3)"
    instance = _two_sizes(_scaled(1024, forward, init), _scaled(40, forward, init))
    assert "depends on the size" in analyse(instance).problem


def test_a_branch_on_the_size_is_refused() -> None:
    forward = "if x.shape[-1] > 100:\n    return torch.relu(x) * 2\nreturn torch.tanh(x)"
    instance = _two_sizes(_scaled(1024, forward, "pass"), _scaled(40, forward, "pass"))
    assert "another path" in analyse(instance).problem


def test_a_reference_for_cuda_is_read_without_one() -> None:
    source = text("return torch.relu(x.cuda()) * 2", "torch.rand(64, 128, device='cuda')")
    code = Asker(of_text("cuda", source)).code()
    assert "cuda = x.cuda()" in code and "fused_pointwise(cuda)" in code


def test_full_size_costs_no_memory() -> None:
    """64 GiB of input and a matrix of 16 GiB: on the meta device both are free."""
    source = text(
        "return torch.relu(self.fc(x)) * 2", "torch.rand(262144, 65536)", init="self.fc = nn.Linear(65536, 65536)"
    )
    assert analyse(of_text("huge", source)[1]).segments
