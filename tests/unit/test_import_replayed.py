"""Files of TritonLLM and KernelBench from end to end: imported, shown, queried, and judged here for real (on cpu)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli_end_to_end import KERNEL, REFERENCE
from typer.testing import CliRunner

from kernelgrove.cli import app

WRONG = KERNEL.replace("+ x, mask", "- x, mask")


def told(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERNELGROVE_DB", str(tmp_path / "grove.db"))
    level = tmp_path / "level1"
    level.mkdir()
    (level / "19_ScaledReLU.py").write_text(REFERENCE)
    return tmp_path


def kernel(id_: str, idea: str, code: str, runtime: float) -> dict[str, Any]:
    judged = {"compiled": True, "correctness": True, "runtime": runtime, "speedup": 0.5 / runtime, "error": None}
    return {
        "code": code,
        "kernel_id": id_,
        "idea_id": idea,
        "round_number": 1,
        "eval_result": judged,
        "code_hash": id_,
        "metadata": {},
    }


TRITONLLM = {
    "metadata": {"problem_name": "19_ScaledReLU"},
    "config": {"model": "gpt-5", "gpu_name": "L40S"},
    "statistics": {},
    "round_summaries": [],
    "best_kernel": {"kernel_id": "k2"},
    "all_ideas": [
        {"idea_text": "one pass", "round_number": 0, "idea_id": "a", "parent_kernel_ids": [], "metadata": {}},
        {"idea_text": "no pass", "round_number": 1, "idea_id": "b", "parent_kernel_ids": ["k1"], "metadata": {}},
    ],
    "all_kernels": [kernel("k1", "a", KERNEL, 0.25), kernel("k2", "b", WRONG, 0.125)],
}


def check(search: str, gpu: str) -> None:
    """What both files hold: i and i + 1, claimed to pass on *gpu*; the faster claim is a wrong program."""
    code, best = told("best", search)
    assert (code, best["basis"], best["target"], best["time_ms"]) == (0, "imported", gpu, 0.125)
    code, shown = told("show", best["implementation"])
    assert code == 0 and "- x, mask" in shown["code"] and shown["evaluation"]["device_key"] == f"{gpu} (claimed)"
    code, rows = told(
        "query", f"search = {search} and code ~ scaled_relu_plus and basis = imported", "--sort", "time_ms"
    )
    assert code == 0 and [row["time_ms"] for row in rows] == [0.125, 0.25]
    code, replayed = told("replay", search, "--device", "cpu", "--target", "L4", "--trials", "1")
    assert code == 1, "what was claimed to pass does not"
    ends = [(row["old"]["outcome"], row["new"]["outcome"], row["new"]["basis"]) for row in replayed["implementations"]]
    assert ends == [("ok", "wrong_result", "projected"), ("ok", "ok", "projected")]
    assert all(row["old"]["basis"] == "imported" for row in replayed["implementations"])
    code, again = told("best", search)
    assert (code, again["evaluation"]) == (0, best["evaluation"]), "a replay adds, and rewrites nothing"
    code, rows = told("query", f"search = {search} and basis = projected", "--of", "evaluations", "--sort", "outcome")
    assert code == 0 and [row["outcome"] for row in rows] == ["ok", "wrong_result"]


def test_a_tritonllm_file_is_imported_shown_queried_and_replayed(folder: Path) -> None:
    file = folder / "search_results_20251102.json"
    file.write_text(json.dumps(TRITONLLM))
    code, done = told("import", str(file), "--problem", str(folder / "level1" / "19_ScaledReLU.py"))
    assert (code, done["format"], done["searches"], done["reference_missing"]) == (0, "tritonllm", ["s1"], [])
    check("s1", "L40S")


def test_a_kernelbench_run_is_imported_shown_queried_and_replayed(folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    results = []
    for sample, (code, runtime) in enumerate([(KERNEL, 0.25), (WRONG, 0.125)]):
        (run / f"level_1_problem_19_sample_{sample}_kernel.py").write_text(code)
        judged = {"compiled": True, "correctness": True, "runtime": runtime, "runtime_stats": {}}
        results.append({"sample_id": sample, **judged, "metadata": {"hardware": "NVIDIA L40S"}})
    (run / "eval_results.json").write_text(json.dumps({"19": results}))
    code, done = told("import", str(run), "--problem", str(folder / "level1"))
    assert (code, done["format"], done["searches"], done["reference_missing"]) == (0, "kernelbench", ["s1"], [])
    check("s1", "NVIDIA L40S")
