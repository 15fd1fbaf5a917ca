"""docs/extending.md and docs/strategies.md say what is so: the example is a strategy that keeps the contract, every
option has its row, and figures are those of the report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelgrove import strategies
from kernelgrove.config import SearchConfig
from kernelgrove.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
PAGE = (ROOT / "docs" / "strategies.md").read_text()
REPORT = (ROOT / "docs" / "benchmarks" / "strategies.md").read_text()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's example in it, as a reader would save it."""
    (code,) = re.findall(r"```python\n(.*?)```", EXTENDING, re.S)
    (tmp_path / "my_strategies.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_strategies", raising=False)
    return tmp_path


def test_the_example_is_short_and_is_a_strategy(written: Path) -> None:
    assert len((written / "my_strategies.py").read_text().splitlines()) < 60
    made = strategies.make("my_strategies:Annealing", {"ideas": "10"})
    assert made.name == "annealing"
    with pytest.raises(UsageError, match="did you mean 'ideas'"):
        strategies.make("my_strategies:Annealing", {"idea": 3})


def test_the_example_keeps_the_contract_by_the_one_line(written: Path) -> None:
    (line,) = re.findall(r"^    pytest (.*--strategy my_strategies:Annealing.*)$", EXTENDING, re.M)
    suite, *options = line.split()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(ROOT / suite), *options],
        capture_output=True,
        text=True,
        cwd=written,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_what_is_no_strategy_is_refused_as_the_page_says(written: Path) -> None:
    (written / "my_strategies.py").write_text(
        'class Two:\n    name = "two"\n\n    def propose(self, view, slots):\n        return []\n'
    )
    with pytest.raises(UsageError) as caught:
        strategies.make("my_strategies:Two")
    assert f"error: {caught.value}" in EXTENDING


@pytest.mark.parametrize("name", strategies.names())
def test_every_option_has_its_row(name: str) -> None:
    for option in strategies.OPTIONS[name]:
        names = ", ".join(f"`{n}`" for n in (option.name, *option.aliases))
        assert f"| {names} | `{option.shown}` | {option.help} |" in PAGE


def test_figures_are_those_of_the_report() -> None:
    rows = [line for line in PAGE.splitlines() if re.search(r"\d\.\d{3} \(", line)]
    assert rows, "the page shows none"
    for row in rows:
        assert row in REPORT, f"not in docs/benchmarks/strategies.md: {row}"


def test_the_default_is_named() -> None:
    assert f"`{SearchConfig.load(alone=True).strategy}` (default)" in PAGE
