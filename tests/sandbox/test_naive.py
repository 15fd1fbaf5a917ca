"""What a naive evaluator concludes of the exploits is asked of one, not assumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpus import PROBLEMS, Entry, exploits, honest

from kernelgrove.problems.problem import load
from kernelgrove.problems.sizes import sized_source

ASKED = [
    entry
    for entry in exploits()
    if entry.runs_on("cpu") and entry.family != "host" and entry.fields["naive"].startswith(("accepted", "refused"))
]
TWIN = next(entry for entry in honest() if entry.path.stem == "chain_plain")


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, Any] | None]:
    asked = [[entry.name, problem_of(entry), entry.code] for entry in (TWIN, *ASKED)]
    command = [sys.executable, "-P", str(Path(__file__).with_name("naive.py"))]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def problem_of(entry: Entry) -> str:
    return sized_source(load(str(PROBLEMS / f"{entry.fields['problem']}.py")), entry.fields.get("naive size", "small"))


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in ASKED])
def test_a_naive_evaluator_concludes_what_the_header_says(verdicts: dict[str, Any], entry: Entry) -> None:
    verdict, says = verdicts[entry.name], entry.fields["naive"]
    accepted = bool(verdict and verdict.get("correctness"))
    assert accepted == says.startswith("accepted"), verdict
    if says.startswith("accepted, faster"):
        assert verdict["runtime"] < verdicts[TWIN.name]["runtime"] / 2
