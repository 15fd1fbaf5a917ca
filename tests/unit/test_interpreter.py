"""The interpreting process: candidates run as on a GPU, checked and counted. The cases: ``interpreter_cases_*``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = sorted(path.stem for path in HERE.glob("interpreter_cases_*.py"))
SECOND = "KERNELGROVE_TRITON_36"


def cases() -> list[str]:
    return [
        f"{module}.{node.name}"
        for module in MODULES
        for node in ast.parse((HERE / f"{module}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("case_")
    ]


@cache
def outcomes(path: str) -> dict[str, str | None]:
    """What every case said, with the folder ``path`` first on the import path."""
    root = str(HERE.parents[1])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, [path, root]))}
    ran = subprocess.run(
        [sys.executable, str(HERE / "interpreter_cases.py"), *MODULES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    said = dict(json.loads(line) for line in ran.stdout.splitlines() if line.startswith("["))
    return said or {"": ran.stderr}


def hold(path: str, name: str) -> None:
    said = outcomes(path)
    assert name in said, f"the case did not run: {said}"
    assert said[name] is None, said[name]


@pytest.mark.parametrize("name", cases())
def test_interpreted(name: str) -> None:
    hold("", name)


@pytest.mark.skipif(SECOND not in os.environ, reason=f"{SECOND} does not name a folder with Triton 3.6")
@pytest.mark.parametrize("name", cases())
def test_interpreted_by_triton_36(name: str) -> None:
    hold(os.environ[SECOND], name)


def test_install_wants_an_interpreting_process() -> None:
    """Without TRITON_INTERPRET the kernels would be compiled: install says so instead of doing nothing."""
    code = "from kernelgrove.engine.evaluator.interpreter import install; install()"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 1 and "set TRITON_INTERPRET=1" in ran.stderr
