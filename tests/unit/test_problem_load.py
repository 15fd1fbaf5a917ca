"""What loading a problem file finds wrong without running it, and how sizes are applied to its text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgrove.errors import ProblemError
from kernelgrove.problems.kernelbench import Identity, identify
from kernelgrove.problems.problem import check_source, library, load, size_name, sized_source, summary

GOOD = '''import torch
import torch.nn as nn


class Model(nn.Module):
    """Scaled softmax."""

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x / self.temperature, dim=-1)


rows = 64
columns = 1000


def get_inputs():
    return [torch.randn(rows, columns)]


def get_init_inputs():
    return [0.7]
'''


def refusal(text: str, path: str = "some/p.py") -> str:
    with pytest.raises(ProblemError) as caught:
        check_source(text, "p", path)
    message = str(caught.value)
    assert path in message
    assert "\n" not in message
    return message


def test_a_kernelbench_file_loads_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "23_Softmax.py"
    file.write_text(GOOD)
    problem = load(str(file))
    assert (problem.name, problem.source, problem.path) == ("23_Softmax", GOOD, str(file))
    assert (dict(problem.sizes), problem.precision, problem.mode) == ({}, None, "train")


def test_library_names_take_dashes_and_capitals() -> None:
    assert load("rms-norm") == load("rms_norm") == load("RMS_Norm")
    assert load("rms_norm").path is None


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ProblemError, match=r"no problem called 'sofmax'; did you mean .*softmax.*kernelgrove problems"):
        load("sofmax")
    with pytest.raises(ProblemError, match=r"no_such_problem.*`kernelgrove problems` lists"):
        load("no_such_problem")


def test_a_missing_file_a_folder_and_bytes_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"There is no file .*gone\.py"):
        load(str(tmp_path / "gone.py"))
    with pytest.raises(ProblemError, match="is a folder"):
        load(str(tmp_path))
    (tmp_path / "latin.py").write_bytes(GOOD.replace("Scaled", "Sk\xe5lad").encode("latin-1"))
    with pytest.raises(ProblemError, match=r"latin\.py is not UTF-8 text"):
        load(str(tmp_path / "latin.py"))
    with pytest.raises(ProblemError, match="There is no problem"):
        load("x" * 5000)
    with pytest.raises(ProblemError, match="There is no problem"):
        load("a\0b")


def test_a_syntax_error_is_told_with_its_line_and_text() -> None:
    message = refusal(GOOD.replace("def forward(", "def forward(("))
    assert "some/p.py:12: syntax error" in message
    assert "`def forward((self" in message
    assert "not Python source" in refusal(GOOD + "\0") or "syntax error" in refusal(GOOD + "\0")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("class Model", "class Net", "no class Model"),
        ("class Model", "class ModelNew", "looks like a candidate"),
        ("def get_inputs", "def inputs", "no function get_inputs"),
        ("def get_init_inputs", "def init_inputs", "no function get_init_inputs, .*needs temperature"),
        ("def get_inputs", "async def get_inputs", "async"),
        (
            "import torch\n",
            "import torch\nimport not_a_module\n",
            "p.py:2: imports not_a_module, which is not installed",
        ),
        ("import torch\n", "from not_a.module import x\n", "imports not_a,"),
        ("import torch\n", "from . import helper\n", "relative import"),
        ("rows = 64", "rows = 64\nMODE = 'test'", "MODE is 'test'; it must be 'train' or 'eval'"),
        ("rows = 64", "rows = 64\nPRECISION = 'half'", "PRECISION is 'half'; it must be default, .* or any"),
        ("rows = 64", "rows = 64\nMODE = rows", "MODE is not a literal"),
        ("rows = 64", "rows = 64\nSIZES = [1]", "SIZES is not a dict"),
        ("rows = 64", "rows = 64\nSIZES = {'small': 4}", "SIZES is not a dict"),
        ("rows = 64", "rows = 64\nSIZES = {}\nSIZES = {}", "SIZES exactly once"),
        ("rows = 64", "rows = 64\nSIZES = {'small': {'row': 4}}", "names 'row', which is not a constant"),
        ("rows = 64", "rows = 64\nrows = 65\nSIZES = {'small': {'rows': 4}}", "not assigned exactly once"),
        ("rows = 64", "rows = cols = 64\nSIZES = {'small': {'rows': 4}}", "not assigned exactly once"),
        ("rows = 64", "rows = 64\nrows += 1\nSIZES = {'small': {'rows': 4}}", "not assigned exactly once"),
        ("rows = 64", "rows = 64\nSIZES = {'small': {'rows': {}}}", "not a number or a tuple"),
        ("rows = 64", "rows = 64\nSIZES = {'given': {'rows': 4}}", "called 'given'"),
    ],
)
def test_each_fault_is_one_sentence_naming_file_and_thing(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    import re

    message = refusal(GOOD.replace(old, new))
    assert re.search(expected, message), message


def test_no_init_inputs_are_needed_where_the_constructor_takes_none() -> None:
    start, end = GOOD.index("    def __init__"), GOOD.index("    def forward")
    text = (GOOD[:start] + GOOD[end:]).replace("def get_init_inputs", "def unused").replace("self.temperature", "2.0")
    assert check_source(text, "p").name == "p"


def test_optional_imports_are_left_to_the_file() -> None:
    check_source("try:\n    import not_a_module\nexcept ImportError:\n    pass\n" + GOOD, "p")


def test_names_bound_by_import_and_assignment_count() -> None:
    text = GOOD.replace("class Model", "class Net").replace("\n\nrows", "\n\nModel = Net\nrows")
    check_source(text, "p")


def test_sizes_precision_and_mode_are_read() -> None:
    text = GOOD.replace(
        "rows = 64", "rows = 64\nSIZES = {'small': {'rows': 3}}\nPRECISION = 'tf32'\nMODE: str = 'eval'"
    )
    problem = check_source(text, "p")
    assert problem.sizes == {"small": {"rows": 3}}
    assert (problem.precision, problem.mode) == ("tf32", "eval")


def test_size_names() -> None:
    text = GOOD.replace("rows = 64", "rows = 64\nSIZES = {'full': {'rows': 9}, 'small': {'rows': 3}}")
    problem = check_source(text, "p")
    assert size_name(problem, None) == "full"
    assert size_name(check_source(GOOD, "p"), None) == "given"
    assert sized_source(problem, "given") == text
    assert sized_source(problem) == text.replace("rows = 64", "rows = 9")
    with pytest.raises(ProblemError, match="p has no size 'tiny'; it has: full, small"):
        sized_source(problem, "tiny")


def test_sized_source_replaces_expressions_and_keeps_the_rest() -> None:
    text = (
        "# größe → 尺寸\r\n"
        "s = 'å'; rows: int = (4 *\r\n   1024)  # kept\r\n"
        "shape = (1, 2); columns = 7; SIZES = {'small': {'rows': 3, 'shape': (5, 6), 'columns': 2.5}}\r\n"
    ) + GOOD.replace("rows = 64\ncolumns = 1000\n", "")
    expected = text.replace("4 *\r\n   1024", "3").replace("(1, 2)", "(5, 6)").replace("columns = 7", "columns = 2.5")
    assert sized_source(check_source(text, "p"), "small") == expected


_NAMES = ["alpha", "beta", "gamma", "delta"]
_VALUES = st.one_of(
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=8),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
)
_FILLERS = st.sampled_from(
    ["", "# a comment: alpha = 1", "other = 'ü'; more = 3", "x = [1,\n     2]", "\tif_ = 1".strip()]
)


@given(
    original=st.fixed_dictionaries(dict.fromkeys(_NAMES, _VALUES)),
    new=st.dictionaries(st.sampled_from(_NAMES), _VALUES),
    fillers=st.lists(_FILLERS, min_size=4, max_size=4),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_sized_source_only_changes_the_named_constants(
    original: dict[str, object], new: dict[str, object], fillers: list[str], ending: str
) -> None:
    def write(values: dict[str, object]) -> str:
        lines = []
        for name, filler in zip(_NAMES, fillers, strict=True):
            lines += [filler, f"é_{name} = 0; {name} = {values[name]!r}  # {name}"]
        return ending.join([*lines, f"SIZES = {{'s': {new!r}}}", *GOOD.split("\n")])

    result = sized_source(check_source(write(original), "p"), "s")
    assert result == write({**original, **new})


def test_loading_and_listing_import_no_torch() -> None:
    code = (
        "import sys; from kernelgrove.problems.problem import *; load('rms_norm'); [summary(n) for n in library()];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_digest_is_of_the_text() -> None:
    assert check_source(GOOD, "a").digest == check_source(GOOD, "b", "elsewhere.py").digest
    assert check_source(GOOD, "a").digest != check_source(GOOD.replace("64", "65"), "a").digest


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("KernelBench/level1/23_Softmax.py", Identity(number=23, level=1, name="Softmax")),
        ("23_Softmax.py", Identity(number=23, name="Softmax")),
        ("level_2_problem_5_sample_3_kernel.py", Identity(number=5, level=2, sample=3)),
        ("runs/level_3_problem_44_MiniGPTBlock.py", Identity(number=44, level=3, name="MiniGPTBlock")),
        ("rms_norm.py", None),
        ("level_x_problem_1.py", None),
    ],
)
def test_kernelbench_names(path: str, expected: Identity | None) -> None:
    assert identify(path) == expected


def test_every_library_problem_has_a_summary() -> None:
    assert len(library()) >= 18
    for name in library():
        assert summary(name).endswith("."), name
        ast.parse(load(name).source)
