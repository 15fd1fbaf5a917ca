"""The real thing, small: problem, search, judge and store together on the cpu device, as a user would type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REFERENCE = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x * self.factor) + x


rows = 48
columns = 500


def get_inputs():
    return [torch.randn(rows, columns)]


def get_init_inputs():
    return [0.5]
"""

KERNEL = """
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def scaled_relu_plus(x_ptr, y_ptr, n, factor, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(y_ptr + at, tl.maximum(x * factor, 0.0) + x, mask=at < n)


class ModelNew(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        y = torch.empty_like(x)
        n = x.numel()
        scaled_relu_plus[(triton.cdiv(n, 1024),)](x, y, n, self.factor, BLOCK=1024)
        return y
"""


def kernelgrove(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERNELGROVE_")}
    command = [sys.executable, "-m", "kernelgrove", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=240, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "reference.py": REFERENCE,
        "right.py": KERNEL,
        "wrong.py": KERNEL.replace("+ x, mask", "- x, mask"),
        "misspelt.py": KERNEL.replace("ModelNew", "Model"),
        "nan.py": REFERENCE.replace("+ x\n", "+ x * float('nan')\n"),
        "prints.py": "print('hello from the problem file')\n" + REFERENCE,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_candidates_are_told_apart(folder: Path) -> None:
    done = kernelgrove(
        "eval", "prints.py", "right.py", "wrong.py", "misspelt.py", "--device", "cpu", "--json", cwd=folder
    )
    assert done.returncode == 1, done.stderr
    right, wrong, misspelt = json.loads(done.stdout)
    assert (right["outcome"], right["basis"], right["trials"]) == ("ok", "projected", {"passed": 5, "of": 5})
    assert right["time_ms"] > 0
    assert right["speedup"]["eager"] > 1
    assert right["provenance"] == "custom"
    assert (wrong["outcome"], wrong["speedup"]) == ("wrong_result", {})
    assert misspelt["outcome"] == "compile_error"
    assert "ModelNew" in misspelt["message"]


def test_a_reference_at_fault_is_one_sentence_and_no_database(folder: Path) -> None:
    done = kernelgrove("run", "nan.py", "--device", "cpu", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "NaN" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("*.db"))


@pytest.mark.slow
def test_a_search_ends_with_a_kernel_that_is_right_judged_alone(folder: Path) -> None:
    small = ["--rounds", "2", "--width", "2", "--depth", "1", "--device", "cpu", "--seed", "1", "--json"]
    done = kernelgrove("run", "reference.py", "--model", "rules", *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["status"] == "finished"
    assert run["best"]["basis"] == "projected"
    assert run["best"]["speedup"]["eager"] > 1
    tree: dict[str, Any] = json.loads(kernelgrove("tree", "--json", cwd=folder).stdout)
    assert len(tree["nodes"]) == run["nodes"] >= 2
    assert kernelgrove("best", "-o", "kernel.py", cwd=folder).returncode == 0
    again = kernelgrove("eval", "reference.py", "kernel.py", "--device", "cpu", cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Correctness: True (5 / 5)" in again.stdout
