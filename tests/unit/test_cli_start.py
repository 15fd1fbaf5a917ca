"""Starting is quick because nothing heavy is imported: help, version and the commands that read a grove."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernelgrove.storage import open_store

#: Runs a command and prints which of these it has imported.
LOOK = """
import sys
from kernelgrove import cli
code = cli.run(sys.argv[1:])
heavy = [name for name in ("torch", "triton", "numpy", "openai", "alembic", "sqlmodel", "rich") if name in sys.modules]
print(heavy, file=sys.stderr)
sys.exit(code)
"""


def imported(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["--help", "--version", "run --help", "tasks --help", "prompt --help"])
def test_help_imports_nothing_heavy(command: str) -> None:
    assert imported(*command.split()) == "[]"


@pytest.mark.parametrize("command", ["ls", "ls --json", "tasks ls"])
def test_reading_a_grove_imports_no_torch(command: str, tmp_path: Path) -> None:
    grove = str(tmp_path / "grove.db")
    open_store(grove, create=True).close()
    found = imported(*command.split(), "--db", grove)
    assert not any(name in found for name in ("torch", "triton", "numpy", "alembic"))


@pytest.mark.parametrize("command", ["gpus", "problems"])
def test_facts_import_no_torch(command: str) -> None:
    assert "torch" not in imported(command)


def test_the_reader_that_leaves_early_is_told_as_a_shell_would() -> None:
    command = f"{sys.executable} -m kernelgrove problems --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 141
    assert done.stderr == ""


def test_version_and_help_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    from kernelgrove import __version__, cli

    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"kernelgrove {__version__}\n"
    assert cli.run([]) == 0
    assert "Commands:" in capsys.readouterr().out
