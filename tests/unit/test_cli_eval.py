"""``eval``: order, documents, exit codes and the BENCHMARK RESULTS block, judged by a stand-in evaluator.

A candidate's text tells the stand-in what to find; the real evaluator is met in test_cli_end_to_end.py.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from cli_stand_ins import BROKEN, PROBLEM, RIGHT, SLOW, WRONG, StandIn

from kernelgrove import cli
from kernelgrove.model import EvaluationRequest, EvaluationResult


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "opened", [])
    monkeypatch.setattr("kernelgrove.engine.evaluator.pool.Pool", StandIn)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    texts = {"right": RIGHT, "slow": SLOW, "wrong": WRONG, "broken": BROKEN, "problem": PROBLEM}
    texts["nan"] = PROBLEM + "# no good\n"
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    return {name: str(tmp_path / f"{name}.py") for name in texts}


def test_results_come_in_the_order_given_though_judged_in_parallel(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [files[name] for name in ("slow", "wrong", "right", "broken")]
    assert cli.run(["eval", files["problem"], *given, "--json"]) == 1
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["candidate"] for row in rows] == given
    assert [row["outcome"] for row in rows] == ["ok", "wrong_result", "ok", "compile_error"]
    assert "1/4" in captured.err
    assert StandIn.opened[0].closed
    assert StandIn.opened[0].prepared == ["problem"]  # once, however many candidates


def test_the_document_of_a_candidate(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", files["problem"], files["right"], files["wrong"], "--json"]) == 1
    right, wrong = json.loads(capsys.readouterr().out)
    wanted = "problem candidate outcome stage message trials max_error basis time_ms time_stats baselines speedup"
    assert set(wanted.split()) | {"provenance", "advice"} <= set(right)
    assert right["basis"] == "projected"
    assert right["trials"] == {"passed": 5, "of": 5}
    assert right["speedup"]["eager"] == pytest.approx(2.237, abs=1e-3)
    assert right["baselines"]["compile"] is None
    assert wrong["stage"] == "check"
    assert not wrong["speedup"]
    assert wrong["time_ms"] is None


def test_the_block_of_a_right_candidate(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", files["problem"], files["right"], "-v"]) == 0
    text = capsys.readouterr().out
    for line in (
        "BENCHMARK RESULTS",
        "Compiled:    True",
        "Correctness: True (5 / 5)",
        "Performance Comparison (projected for H100):",
        "  Reference PyTorch: 0.5123 ms (projected, eager)",
        "  Custom kernel:     0.2290 ms (projected)",
        "  Speedup:           2.24x over eager",
        "  torch.compile:     not projected",
        "  - wider loads may help",
        "  kernels: ['softmax_kernel']",
    ):
        assert line in text.splitlines(), text


def test_the_block_of_a_wrong_candidate_has_no_figure(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["eval", files["problem"], files["wrong"], files["broken"]]) == 1
    wrong, broken = capsys.readouterr().out.split("BENCHMARK RESULTS")[1:]
    assert "Compiled:    True" in wrong
    assert "Correctness: False (2 / 5)" in wrong
    assert "2.0 where 1.0 was expected" in wrong
    assert "Speedup" not in wrong
    assert "Compiled:    False" in broken
    assert "there is no class ModelNew" in broken


def test_options_reach_the_evaluator(files: dict[str, str]) -> None:
    options = "--trials 3 --samples 7 --backend cuda --no-timing --precision tf32 --tolerance 1e-4 --timeout 2m"
    options += " --target A100 --size small"
    assert cli.run(["eval", files["problem"], files["right"], *options.split(), "--json"]) == 0
    (request,) = StandIn.opened[0].requests
    assert (request.trials, request.samples, request.backend, request.precision) == (3, 7, "cuda", "tf32")
    assert (request.timing, request.tolerance, request.timeout_s) == (False, 1e-4, 120.0)
    assert request.code == RIGHT
    assert request.instance.size == "small"
    assert StandIn.opened[0].target == "A100"


def test_a_manifest_streams_one_object_a_line(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("problem.py", "slow.py"), ("nan.py", "right.py"), ("problem.py", "right.py")]
    lines = [json.dumps({"problem": problem, "candidate": candidate}) for problem, candidate in pairs]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    assert cli.run(["eval", "--manifest", str(tmp_path / "m.jsonl"), "--json"]) == 2  # one problem is no good
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["outcome"] for row in rows] == ["ok", None, "ok"]
    assert "NaN" in rows[1]["message"]
    assert [row["problem"] for row in rows] == ["problem", "nan", "problem"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["eval"], 2, "needs a problem and a candidate"),
        (["eval", "{problem}"], 2, "needs a problem and a candidate"),
        (["eval", "no_such_problem", "{right}"], 2, "no_such_problem"),
        (["eval", "{problem}", "none.py"], 2, "none.py"),
        (["eval", "{right}", "{right}"], 2, "candidate"),
        (["eval", "{problem}", "{right}", "--target", "H1000"], 2, "H1000"),
        (["eval", "{problem}", "{right}", "--device", "gpu"], 2, "'gpu'"),
        (["eval", "{problem}", "{right}", "--device", "cuda:7"], 3, "cuda:7"),
        (["eval", "{problem}", "{right}", "--tolerance", "0"], 2, "--tolerance"),
        (["eval", "{problem}", "{right}", "--tolerance", "nan"], 2, "--tolerance"),
        (["eval", "{problem}", "{right}", "--timeout", "soon"], 2, "--timeout"),
        (["eval", "{problem}", "{right}", "--trials", "0"], 2, "--trials"),
        (["eval", "{problem}", "{right}", "--backend", "cudda"], 2, "cuda"),
        (["eval", "{problem}", "{right}", "--trails", "3"], 2, "--trials"),
        (["eval", "{nan}", "{right}"], 2, "NaN"),
        (["eval", "{problem}", "--manifest", "m.jsonl"], 2, "PROBLEM"),
        (["eval", "--manifest", "none.jsonl"], 2, "none.jsonl"),
    ],
)
def test_bad_input_is_one_sentence(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert cli.run([word.format(**files) for word in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err


def test_an_interrupt_ends_judging_at_once(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released = threading.Event()

    def evaluate(self: Any, request: EvaluationRequest) -> EvaluationResult:
        if request.code == SLOW:
            released.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(StandIn, "evaluate", evaluate)
    monkeypatch.setattr(StandIn, "close", lambda self: released.set())
    assert cli.run(["eval", files["problem"], files["right"], files["slow"], "--json"]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert released.is_set()


def test_an_unexpected_error_is_one_line_and_a_traceback_only_on_demand(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StandIn, "evaluate", lambda self, request: 1 / 0)
    arguments = ["eval", files["problem"], files["right"]]
    assert cli.run(arguments) == 3
    plain = capsys.readouterr().err
    assert plain.startswith("internal error: ZeroDivisionError")
    assert "--debug" in plain
    assert "Traceback" not in plain
    monkeypatch.setenv("KERNELGROVE_DEBUG", "")
    assert cli.run([*arguments, "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
