"""``run``, ``resume`` and the commands that read a grove, with a stand-in evaluator and proposer and the real store,
strategy and controller."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_stand_ins import PROBLEM, Muse, StandIn

from kernelgrove import cli
from kernelgrove.model import EvaluationRequest, EvaluationResult


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kernelgrove.engine.proposers.base import PROVIDERS

    monkeypatch.setattr(StandIn, "opened", [])
    monkeypatch.setattr("kernelgrove.engine.evaluator.pool.Pool", StandIn)
    monkeypatch.setitem(PROVIDERS, "muse", ("muse", lambda model, options: Muse()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.py").write_text(PROBLEM)
    (tmp_path / "nan.py").write_text(PROBLEM + "# no good\n")


RUN = ["run", "problem.py", "--model", "muse", "--strategy", "branch", "-o", "together=true", "--seed", "1"]
RUN += ["--rounds", "2", "--width", "2", "--depth", "3"]


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert cli.run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_run_killed_before_it_stored_a_search_leaves_a_grove_with_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("grove.db").touch()  # what SQLite leaves when its process dies between opening and the first commit
    assert document(capsys, "ls") == []
    assert cli.run(["resume"]) == 2
    assert "grove.db is empty" in capsys.readouterr().err


def test_the_documents_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    run = document(capsys, *RUN)
    assert (run["search"], run["status"], run["stopped_by"]) == ("s1", "finished", "strategy")
    assert (run["problem"], run["device"], run["target"]) == ("problem", "cpu", "H100")
    assert run["nodes"] == 3
    assert run["implementations"] == 9  # the baseline's, two ideas of three each, two repairs
    assert run["evaluations"]["ok"] >= 5
    best = run["best"]
    assert best["basis"] == "projected"
    assert best["speedup"]["eager"] > 1
    assert best["baselines"]["compile"] is None
    assert run["tokens"] == {"input": 0, "output": 0}

    (row,) = document(capsys, "ls")
    for key in ("search", "problem", "status", "strategy", "models", "device", "nodes", "evaluations", "created"):
        assert row[key] is not None, key
    assert row["best_speedup"] == pytest.approx(best["speedup"]["eager"])

    tree = document(capsys, "tree", "s1")
    ids = {node["id"] for node in tree["nodes"]}
    assert len(ids) == run["nodes"]
    assert tree["root"] in ids
    assert all(node["parent"] in ids for node in tree["nodes"] if node["parent"])
    assert sum(len(node["implementations"]) for node in tree["nodes"]) == run["implementations"]

    shown = document(capsys, "show", best["implementation"])
    assert "ModelNew" in shown["code"]
    assert document(capsys, "best")["code"] == shown["code"]
    assert document(capsys, "resume") == run  # a finished search prints its document


def test_what_a_person_sees(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(RUN) == 0
    text = capsys.readouterr().out
    for words in (
        "problem on cpu for H100 (projected)",
        "search s1 started",
        "round 1",
        "wrong_result",
        "muse: asked politely",
        "Use 2 rows a program",
        "0.2290 ms  2.24x projected",
        "best: i",
        "over eager (projected for H100)",
        "next:",
        "kernelgrove best s1 -o kernel.py",
    ):
        assert words in text, words
    for command, words in {
        "ls": "2.24x projected",
        "tree": "└── ",
        "show i1": "class ModelNew",
        "show n2": "Use 1 rows a program",
        "show s1": "def get_inputs",
        "show e1": "projected",
        "best": "class ModelNew",
    }.items():
        assert cli.run(command.split()) == 0
        assert words in capsys.readouterr().out, command


def test_best_writes_the_kernel(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run([*RUN, "--db", "sub.db"]) == 0
    assert cli.run(["best", "s1", "--db", "sub.db", "-o", "kernel.py"]) == 0
    assert "ModelNew" in (tmp_path / "kernel.py").read_text()
    assert cli.run(["best", "s1", "--db", "sub.db", "-o", "no/such/folder.py"]) == 2
    assert "no/such/folder.py" in capsys.readouterr().err


def test_a_budget_ends_a_search_and_a_larger_one_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    first = document(capsys, *RUN, "--budget-evals", "3")
    assert (first["status"], first["stopped_by"]) == ("finished", "evaluations")
    assert sum(first["evaluations"].values()) == 3
    assert document(capsys, "resume") == first
    second = document(capsys, "resume", "s1", "--budget-evals", "100")
    assert second["stopped_by"] == "strategy"
    assert sum(second["evaluations"].values()) > 3


def test_a_search_with_nothing_that_passes_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Muse, "propose", _only_wrong(Muse.propose))
    run = document(capsys, *RUN, code=1)
    assert run["status"] == "finished"
    assert run["best"] is None
    assert cli.run(["best"]) == 1
    assert "no implementation has passed" in capsys.readouterr().err


def _only_wrong(propose: Any) -> Any:
    def wrong(self: Muse, request: Any) -> Any:
        from dataclasses import replace

        found = propose(self, request)
        return replace(found, code=found.code and found.code.replace("'right'", "'wrong'"))

    return wrong


def test_ctrl_c_saves_and_resume_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    judged = 0
    evaluate = StandIn.evaluate

    def interrupted(self: StandIn, request: EvaluationRequest) -> EvaluationResult:
        nonlocal judged
        judged += 1
        if judged == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(self, request)

    monkeypatch.setattr(StandIn, "evaluate", interrupted)
    run = document(capsys, *RUN, code=130)
    assert (run["status"], run["stopped_by"]) == ("paused", "user")
    done = sum(run["evaluations"].values())
    assert done >= 2
    resumed = document(capsys, "resume")
    assert resumed["status"] == "finished"
    assert sum(resumed["evaluations"].values()) > done


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("run no_such_problem", 2, "no_such_problem"),
        ("run problem.py --target H1000", 2, "H1000"),
        ("run problem.py --strategy brunch", 2, "branch"),
        ("run problem.py --device cuda:7", 3, "cuda:7"),
        ("run problem.py --device tpu", 2, "'tpu'"),
        ("run problem.py --model mues", 2, "mues"),
        ("run problem.py -o round=3", 2, "rounds"),
        ("run problem.py -o rounds", 2, "key=value"),
        ("run problem.py --width 3,x", 2, "--width"),
        ("run problem.py --budget-time soon", 2, "--budget-time"),
        ("run problem.py --budget-evals 0", 2, "--budget-evals"),
        ("run problem.py --rounds 2 -o rounds=3", 2, "rounds"),
        ("run problem.py --precision fp8", 2, "strict"),
        ("run problem.py --config none.toml", 2, "none.toml"),
        ("run nan.py --model muse", 2, "NaN"),
        ("run problem.py --model muse --db no/such/folder.db", 2, "no/such"),
        ("ls --db none.db", 2, "none.db"),
        ("tree s999 --db none.db", 2, "none.db"),
        ("resume --db none.db", 2, "none.db"),
        ("show x1 --db none.db", 2, "none.db"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: str, code: int, says: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    assert cli.run(arguments.split()) == code
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last
    assert len(captured.err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["ls", "run problem.py --model muse", "resume", "tree", "doctor"])
def test_a_file_that_is_no_grove_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    other = tmp_path / "g.db"
    other.write_text("hello, not a database " * 20)
    code = cli.run([*command.split(), "--db", str(other)])
    captured = capsys.readouterr()
    assert code == (3 if command == "doctor" else 2)
    assert "g.db" in captured.err + captured.out
    assert other.read_text() == "hello, not a database " * 20


def test_ids_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(RUN) == 0
    for arguments in ("tree s9", "show i999", "show n999", "show q1", "best s9", "resume s9", "tree nonsense"):
        capsys.readouterr()
        assert cli.run(arguments.split()) == 2, arguments
        assert arguments.split()[1] in capsys.readouterr().err, arguments
