"""Programs of the rules are right: run for real in the interpreter, and compiled for a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rules_requests import Asker, body, of_library, of_text, search
from rules_texts import TEXTS

from kernelgrove.engine.proposers.rules.analysis import analyse
from kernelgrove.engine.proposers.rules.emit.module import program
from kernelgrove.engine.proposers.rules.plan import Plan
from kernelgrove.problems.problem import library

#: Library problems with something to fuse.
FUSED = [name for name in library() if not name.startswith("matmul")]

#: Plans that together reach every way of writing a kernel, at the sizes of the texts.
PLANS = (
    Plan(),
    Plan(style="loop", tile=64, one_pass="lane", backwards=True, even=True, fold_bias=True, planes=True),
    Plan(style="split", splits=4, tile=32, one_pass="tile", constants=True, in_place=True, block=256, per_program=2),
    Plan(rows=4, persistent=1, hints=True, reciprocal=True, point_persistent=1, planes=True, in_place=True),
    Plan(style="split", splits=2, tile=64, one_pass="lane", reciprocal=True, point_persistent=1, even=True),
    Plan(style="loop", tile=32, one_pass="tile", persistent=1, block=128, hints=True),
)


def interpret(jobs: list[dict[str, Any]]) -> dict[str, str | None]:
    """What is wrong with each program, None where nothing is."""
    script = Path(__file__).with_name("rules_interpreted.py")
    run = subprocess.run([sys.executable, str(script)], input=json.dumps(jobs), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(json.loads(run.stdout))


def test_programs_for_texts_are_right_in_every_style() -> None:
    jobs = []
    for number, (name, (source, mode)) in enumerate(TEXTS.items()):
        analysis = analyse(of_text(name, source, mode)[1])
        assert analysis.segments, f"{name}: {analysis.problem}"
        seen: set[str] = set()
        few = () if name.startswith("pointwise") else (PLANS[1 + (number + 2) % 5], PLANS[1 + (number + 3) % 5])
        for plan in (PLANS[0], PLANS[1 + number % 5], *few):
            recognised = analysis.recognised(plan.fold_bias)
            assert recognised is not None
            code = program(recognised, source, plan, sms=3)
            if body(code) not in seen:
                seen.add(body(code))
                jobs.append({"name": f"{name} {plan.header()}", "source": source, "code": code, "mode": mode})
    wrong = {name: found for name, found in interpret(jobs).items() if found}
    assert len(jobs) > 120 and not wrong


def test_programs_for_the_library_are_right() -> None:
    jobs = []
    for name in FUSED:
        pair = of_library(name)
        programs = list(dict.fromkeys(map(body, search(Asker(pair), widths=(3, 4), depths=(2, 2)))))
        for number in sorted({0, len(programs) // 3, 2 * len(programs) // 3, len(programs) - 1}):
            source, mode = pair[1].check_source, pair[1].mode
            jobs.append({"name": f"{name} {number}", "source": source, "code": programs[number], "mode": mode})
    wrong = {name: found for name, found in interpret(jobs).items() if found}
    assert len(jobs) >= 3 * len(FUSED) and not wrong


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET", "0") == "1", reason="an interpreting process cannot compile")
@pytest.mark.parametrize("name", ["rms_norm", "softmax", "group_norm", "cross_entropy", "cumulative_sum"])
def test_programs_compile_for_sm_90_at_full_size_without_spilling(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from kernelgrove.engine.evaluator.projection.compiling import compile_launches
    from kernelgrove.engine.gpus.specs import find
    from kernelgrove.engine.proposers.rules.load import load

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    pair = of_library(name)
    reference = load(pair[1].source, pair[1].mode, "meta")
    programs = list(dict.fromkeys(search(Asker(pair), widths=(3,), depths=(1,))))
    for number, code in enumerate(programs[:3]):
        path = tmp_path / f"program_{number}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        arguments: dict[str, Any] = {}
        exec(compile(pair[1].source, name, "exec"), arguments)
        with torch.device("meta"):
            model = module.ModelNew(*arguments["get_init_inputs"]())
        with torch.no_grad():
            made = compile_launches(lambda model=model: model(*reference.inputs), find("H100").facts())
        assert made and all(kernel.spills == 0 and kernel.registers <= 255 for kernel in made), code
