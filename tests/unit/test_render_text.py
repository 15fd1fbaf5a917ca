"""Figures, tables and trees as text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from kernelgrove import render
from kernelgrove.model import Basis, EvaluationResult, Outcome, Stage


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.229, "0.2290 ms"), (12.5, "12.5000 ms"), (0.01, "0.0100 ms"), (0.00123456, "0.00123 ms"), (None, "-")],
)
def test_milliseconds_keep_their_digits(value: float | None, text: str) -> None:
    assert render.milliseconds(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_counts_put_the_most_frequent_first() -> None:
    assert render.counts({"timeout": 1, "ok": 3, "rejected": 0, "wrong_result": 1}) == "3 ok, 1 timeout, 1 wrong_result"
    assert render.counts({}) == "none"


@pytest.mark.parametrize(
    ("stage", "compiled"),
    [(Stage.PARSE, False), (Stage.LOAD, False), (Stage.COMPILE, False), (Stage.RUN, True), (Stage.CHECK, True)],
)
def test_a_block_says_compiled_by_the_stage_reached(stage: Stage, compiled: bool) -> None:
    block = render.benchmark_block(EvaluationResult(Outcome.TIMEOUT, stage, "too slow", 0, 5), "p", "c.py", "H100")
    assert f"Compiled:    {compiled}" in block
    assert "Outcome:     timeout" in block
    assert "Performance" not in block


def test_a_measured_block_names_both_baselines() -> None:
    result = EvaluationResult(
        Outcome.OK,
        Stage.TIME,
        trials_passed=5,
        trials_of=5,
        basis=Basis.MEASURED,
        time_ms=0.5,
        baselines={"eager": 2.0, "compile": 1.0},
        speedup={"eager": 4.0, "compile": 2.0},
    )
    lines = render.benchmark_block(result, "p", "c.py", "NVIDIA H200").splitlines()
    assert "Performance Comparison (measured for NVIDIA H200):" in lines
    assert "  Reference PyTorch: 2.0000 ms (interquartile mean, eager)" in lines
    assert "  Speedup:           4.00x over eager" in lines
    assert "  torch.compile:     1.0000 ms (interquartile mean); speedup over it: 2.00x" in lines


def test_a_block_without_timing_says_so() -> None:
    block = render.benchmark_block(EvaluationResult(Outcome.OK, Stage.CHECK, "", 5, 5), "p", "c.py", "H100")
    assert "not timed" in block
    assert "Speedup" not in block


def test_a_document_of_a_failure_has_no_figure_even_where_the_judge_left_one() -> None:
    left = EvaluationResult(Outcome.WRONG_RESULT, Stage.CHECK, time_ms=1.0, speedup={"eager": 9.0})
    document = render.evaluation_document(left, "p", "c.py")
    assert document["speedup"] == {}
    assert document["time_ms"] is None


def _node(id_: str, parent: str | None, idea: str, *made: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": id_, "parent": parent, "idea": idea, "state": "open", "implementations": list(made), **more}


def _made(id_: str, outcome: str, time_ms: float | None = None, **more: Any) -> dict[str, Any]:
    speedup = {"eager": 1.0 / time_ms} if time_ms else None
    return {"id": id_, "outcome": outcome, "time_ms": time_ms, "speedup": speedup, "basis": "projected", **more}


def drawn(document: dict[str, Any], width: int = 70) -> str:
    to = io.StringIO()
    Console(file=to, width=200).print(render.idea_tree(document, width=width))
    return to.getvalue()


def test_a_tree_shows_ideas_outcomes_and_the_best_of_each_node() -> None:
    text = drawn(
        {
            "root": "n1",
            "nodes": [
                _node("n1", None, "the reference itself", _made("i1", "ok", 0.5)),
                _node("n2", "n1", "many  words " * 30, _made("i2", "ok", 0.25), _made("i3", "ok", 0.2)),
                _node("n3", "n2", "an idea", _made("i4", "timeout", repair_of="i2")),
                _node("n4", "n1", "[bold]not markup[/bold]", state="pruned", pruned_because="hopeless"),
            ],
        }
    )
    lines = text.splitlines()
    assert lines[0].rstrip() == "n1  the reference itself"
    (second,) = (line for line in lines if "n2" in line)
    assert "…" in second
    assert "0.2000 ms  5.00x projected" in second
    assert "i4 repairs i2  timeout" in text
    assert "[bold]not markup[/bold]  pruned: hopeless" in text
    assert [line.index("i4") > line.index("──") for line in lines if "i4" in line] == [True]


def test_a_tree_says_which_times_were_screened_alone() -> None:
    fast, slow = {**_made("i2", "ok", 0.2), "timing": "sealed"}, {**_made("i3", "ok", 0.4), "timing": "screened"}
    text = drawn({"root": "n1", "basis": "measured", "nodes": [_node("n1", None, "the reference", fast, slow)]})
    (first,) = (line for line in text.splitlines() if "i2" in line)
    (second,) = (line for line in text.splitlines() if "i3" in line)
    assert "screened" not in first and second.rstrip().endswith(", screened")


def test_a_table_shows_none_as_a_dash_and_no_markup() -> None:
    to = io.StringIO()
    Console(file=to, width=80).print(render.table(("a", "b"), [(None, "[red]x[/red]")]))
    assert "-" in to.getvalue()
    assert "[red]x[/red]" in to.getvalue()
