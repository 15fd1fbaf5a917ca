"""The docs say what is so: docs/cli.md is what the command line says of itself, and no link leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/*.md")] if path.is_file()]


def test_the_page_on_the_command_line_is_current() -> None:
    script = ROOT / "docs" / "make_cli.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=ROOT)
    page = (ROOT / "docs" / "cli.md").read_text()
    assert page == done.stdout, "docs/cli.md is not what the command line says: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_every_command_and_exit_code_has_its_place() -> None:
    from typer.main import get_command

    from kernelgrove.cli import app

    page = (ROOT / "docs" / "cli.md").read_text()
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"\n## {name}\n" in page
    for code in (0, 1, 2, 3, 130):
        assert f"| {code} |" in page
