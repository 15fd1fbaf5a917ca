"""Shrinking a KernelBench-format file: the reference runs, sizes stay unequal, relations survive."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.model import Problem
from kernelgrove.problems.constants import find_sites, shrunk
from kernelgrove.problems.problem import check_source
from kernelgrove.problems.reference import Reference, validate
from kernelgrove.problems.scale import LIMIT, SCALED, Scaling, measure, scaling, shrink

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"

CONV = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, bias_shape):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.bias = nn.Parameter(torch.randn(bias_shape))

    def forward(self, x):
        return torch.relu(self.conv(x)) + self.bias

batch_size = 128
in_channels = 64
out_channels = 128
height = width = 256
kernel_size = 3
bias_shape = (out_channels, 1, 1)

def get_inputs():
    return [torch.rand(batch_size, in_channels, height, width)]

def get_init_inputs():
    return [in_channels, out_channels, kernel_size, bias_shape]
"""
)

LINEAR = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, in_features, out_features, divide):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.divide = divide

    def forward(self, x):
        return torch.sigmoid(self.linear(x) / self.divide)

def get_inputs():
    return [torch.rand(1000, 3000)]

def get_init_inputs():
    return [3000, 5000, 2.5]
"""
)

LAYER_NORM_TUPLES = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x):
        return self.ln(x)

batch_size = 100
features = 60
dim1, dim2 = 250, 300
shape = (features, dim1, dim2)

def get_inputs():
    return [torch.rand((batch_size,) + shape)]

def get_init_inputs():
    return [shape]
"""
)

MATMUL_TRANSPOSED = (
    HEAD
    + """
class Model(nn.Module):
    def forward(self, A, B):
        return torch.matmul(A.T, B.T)

M = 1024 * 2
K = 4096 * 2
N = 2048 * 2

def get_inputs():
    return [torch.rand(K, M), torch.rand(N, K)]

def get_init_inputs():
    return []
"""
)

GROUP_NORM = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, num_features, num_groups):
        super().__init__()
        self.gn = nn.GroupNorm(num_groups=num_groups, num_channels=num_features)

    def forward(self, x):
        return self.gn(x)

batch_size = 112
features = 360
num_groups = 12
dim1 = 200
dim2 = 220

def get_inputs():
    return [torch.rand(batch_size, features, dim1, dim2)]

def get_init_inputs():
    return [features, num_groups]
"""
)

ATTENTION_HEADS = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, n_embd, n_head, max_seqlen):
        super().__init__()
        assert n_embd % n_head == 0
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.register_buffer("mask", torch.tril(torch.ones(max_seqlen, max_seqlen)))
        self.n_head = n_head

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in self.qkv(x).split(C, dim=2))
        att = (q @ k.transpose(-2, -1)).masked_fill(self.mask[:T, :T] == 0, float("-inf"))
        return (F.softmax(att, dim=-1) @ v).transpose(1, 2).contiguous().view(B, T, C)

batch_size = 16
max_seqlen = 1024
seq_len = 512
n_embd = 768
n_head = 12

def get_inputs():
    return [torch.rand(batch_size, seq_len, n_embd)]

def get_init_inputs():
    return [n_embd, n_head, max_seqlen]
"""
)

SPLIT_HEADS = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim

    def forward(self, x):
        return torch.softmax(x.view(x.shape[0], x.shape[1], self.heads, self.head_dim), dim=-1)

def get_inputs():
    return [torch.randn(24, 700, 960)]

def get_init_inputs():
    return [20, 48]
"""
)

EMBEDDING = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, vocabulary, width):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, ids):
        return {"sum": self.table(ids).sum(dim=1), "parts": (ids + 1, self.table.weight * 2)}

sizes = {"vocabulary": 50257, "width": 770}

def get_inputs():
    return [torch.randint(0, sizes["vocabulary"], (640, 130))]

def get_init_inputs():
    return [sizes["vocabulary"], sizes["width"]]
"""
)

READS_VALUES = (
    HEAD
    + """
class Model(nn.Module):
    def forward(self, x):
        if x.sum().item() > 0:
            return x * 2
        return x - 1

def get_inputs():
    return [torch.randn(3000, 5000)]

def get_init_inputs():
    return []
"""
)

FIXED_INSIDE = (
    HEAD
    + """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1024, 48)

    def forward(self, x):
        return self.first(x)

def get_inputs():
    return [torch.randn(3000, 1024)]

def get_init_inputs():
    return []
"""
)

TEXTS = {
    "conv": CONV,
    "linear": LINEAR,
    "layer_norm_tuples": LAYER_NORM_TUPLES,
    "matmul_transposed": MATMUL_TRANSPOSED,
    "group_norm": GROUP_NORM,
    "attention_heads": ATTENTION_HEADS,
    "split_heads": SPLIT_HEADS,
    "embedding": EMBEDDING,
    "reads_values": READS_VALUES,
    "fixed_inside": FIXED_INSIDE,
}


def problem(name: str) -> Problem:
    return check_source(TEXTS[name], name)


@pytest.fixture(scope="module")
def scalings() -> dict[str, tuple[Scaling, float]]:
    found = {}
    for name in TEXTS:
        started = time.perf_counter()
        result = scaling(problem(name))
        found[name] = (result, time.perf_counter() - started)
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_the_reference_runs_within_the_limit(name: str, scalings: dict[str, tuple[Scaling, float]]) -> None:
    result, _ = scalings[name]
    assert result.label == SCALED
    assert result.note == ""
    reference = Reference(result.source, name)
    validate(reference, "cpu")
    cost = measure(result.source, name, "train", "cpu")
    assert cost is not None
    assert cost.over(LIMIT) <= 2
    assert cost.elements > 300, "as large as the limit allows, not as small as it can be"


@pytest.mark.parametrize("name", TEXTS)
def test_unequal_sizes_stay_unequal_and_ordered_or_kept(name: str, scalings: dict[str, tuple[Scaling, float]]) -> None:
    result, _ = scalings[name]
    before, after = list(result.sizes), list(result.sizes.values())
    assert len(set(after)) == len(before)
    assert all(1 < new <= old for old, new in result.sizes.items())
    kept = find_sites(ast.parse(TEXTS[name])).kept
    assert not kept & set(after), "a size that becomes the kernel size hides mix-ups of the two"
    for old, new in result.sizes.items():
        if new != old and old & (old - 1) == 0:
            assert new & (new - 1) == 0, f"{old} -> {new}: a kernel may count on powers of two"


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_quick(name: str, scalings: dict[str, tuple[Scaling, float]]) -> None:
    assert scalings[name][1] < 8


@pytest.mark.parametrize("name", ["conv", "attention_heads", "reads_values"])
def test_it_is_deterministic(name: str, scalings: dict[str, tuple[Scaling, float]]) -> None:
    result, _ = scalings[name]
    assert shrink(problem(name)) == (result.label, result.source)


def test_only_numbers_change(scalings: dict[str, tuple[Scaling, float]]) -> None:
    for name, (result, _) in scalings.items():
        for old, new in zip(TEXTS[name].splitlines(), result.source.splitlines(), strict=True):
            without = [character for character in old if not character.isdigit() and character not in "* "]
            assert without == [c for c in new if not c.isdigit() and c not in "* "]


def test_powers_of_two_in_a_matmul_keep_their_order(scalings: dict[str, tuple[Scaling, float]]) -> None:
    sizes = scalings["matmul_transposed"][0].sizes
    assert sizes[2048] < sizes[4096] < sizes[8192]
    assert "M = 1024" not in scalings["matmul_transposed"][0].source


def test_the_kernel_size_is_kept(scalings: dict[str, tuple[Scaling, float]]) -> None:
    assert "kernel_size = 3" in scalings["conv"][0].source


def test_groups_still_divide_channels(scalings: dict[str, tuple[Scaling, float]]) -> None:
    sizes = scalings["group_norm"][0].sizes
    assert sizes[360] % sizes[12] == 0


def test_a_small_file_is_left_alone() -> None:
    text = LINEAR.replace("1000", "64").replace("3000", "100").replace("5000", "90")
    assert shrink(check_source(text, "small")) == ("given", text)


def test_a_file_that_does_not_run_is_left_alone() -> None:
    broken = LINEAR.replace("torch.rand(1000, 3000)", "torch.rand(1000, 3001)")
    # 3000 and 3001 stay unequal, so no sizes make it run.
    found = scaling(check_source(broken, "broken"))
    assert (found.label, found.source) == ("given", broken)
    assert found.note


def test_an_instance_that_meta_cannot_tell_is_tried_for_real() -> None:
    text = EMBEDDING.replace('sizes["vocabulary"], (640, 130)', "50256, (640, 130)")
    found = scaling(check_source(text, "literal_bound"))
    assert found.label == SCALED
    validate(Reference(found.source, "literal_bound"), "cpu")


def test_a_named_size_can_be_shrunk() -> None:
    text = 'rows = 64\nSIZES = {"full": {"rows": 40000}}\n' + LINEAR.replace("1000", "rows")
    label, source = shrink(check_source(text, "named"))
    assert label == SCALED
    assert "rows = 40000" not in source


def test_the_acceptance_style_file_needs_no_shrinking() -> None:
    text = LINEAR.replace("torch.rand(1000, 3000)", "torch.rand(64, 1000)").replace("[3000, 5000", "[1000, 20")
    assert shrink(check_source(text, "rows"))[0] == "given"


def test_cost_counts_a_matrix_product() -> None:
    cost = measure(LINEAR, "linear", "train", "meta")
    assert cost is not None
    assert cost.flops == 2 * 1000 * 3000 * 5000
    assert cost.elements == 1000 * 3000 + 3000 * 5000 + 5000 + 1000 * 5000
    assert cost.rows == 1000


def test_shrinking_leaves_no_module_behind(tmp_path: Path) -> None:
    import sys

    before = {name for name in sys.modules if name.startswith("kernelgrove_problem_")}
    shrink(problem("linear"))
    assert {name for name in sys.modules if name.startswith("kernelgrove_problem_")} <= before


@settings(max_examples=60, deadline=None)
@given(
    values=st.sets(st.integers(9, 2_000_000), min_size=1, max_size=8),
    kept=st.sets(st.integers(2, 8), max_size=4),
    power=st.floats(0.3, 0.9),
    divisors=st.booleans(),
)
def test_shrunk_sizes_are_unequal_ordered_and_smaller(
    values: set[int], kept: set[int], power: float, divisors: bool
) -> None:
    new = shrunk(values, kept, power, divisors)
    ordered = [new[value] for value in sorted(values)]
    assert ordered == sorted(set(ordered))
    assert all(1 < new[value] <= value for value in values)
    assert not kept & set(ordered)


def test_sites_are_found_where_files_write_them() -> None:
    text = (
        "N = 2 ** 14\nM, K = 100, 200\nshape = (300, [400, 3])\nkernel_size = 11\nseed = 1234\nflag = True\n"
        "half = N // 2\nneg = -500\nSIZES = {}\nclass Model:\n    width = 600\n"
        "def get_inputs():\n    b = 16 * 1024\n    return [f(700, stride=9, high=800), x[900]]\n"
    )
    sites = find_sites(ast.parse(text))
    assert set(sites.sizes) == {100, 200, 300, 400, 700, 800, 16384}
    assert len(sites.sizes[16384]) == 2
    assert sites.kept == {2, 3, 9, 11, 1234}


def test_meta_is_never_left_as_the_default_device() -> None:
    shrink(problem("linear"))
    assert torch.empty(1).device.type == "cpu"
