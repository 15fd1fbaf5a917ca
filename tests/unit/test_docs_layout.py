"""The layout is as docs/design/001-layout.md says: every package is listed, and files stay readable in length."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    here = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("kernelgrove/**/__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == here


def test_every_folder_with_code_is_a_package() -> None:
    for path in ROOT.glob("kernelgrove/**/*.py"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("kernelgrove", "tests", "benchmarks", "docs")
        for path in ROOT.glob(f"{folder}/**/*.py")
        if (lines := len(path.read_text().splitlines())) > 800
    }
    assert not long


def test_dependencies_each_have_their_line() -> None:
    page = (ROOT / "docs/design/dependencies.md").read_text()
    named = [requirement.split(">")[0] for requirement in PROJECT["project"]["dependencies"]]
    named += [requirement.split(">")[0] for requirement in PROJECT["project"]["optional-dependencies"]["dev"]]
    for name in named:
        assert name in page, f"docs/design/dependencies.md says nothing of {name}"
