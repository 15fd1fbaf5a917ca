"""Replay: evaluations are added and none rewritten, old beside new, and what was done before is not done twice."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_search import DEVICE, INSTANCE, SMALL, FakeEvaluator, FakeProposer, controller, spec

from kernelgrove import cli
from kernelgrove.engine import replay
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.errors import EvaluatorError, NotFound, StoreError
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationRequest,
    EvaluationResult,
    Instance,
    Outcome,
    Problem,
    Stage,
)
from kernelgrove.ports import EvaluatedResult
from kernelgrove.storage import SqliteStore, documents, open_store
from kernelgrove.storage.importers.placeholder import placeholder

GPU = Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED, {"torch": "2.13"})


class Gpu(FakeEvaluator):
    """Measures: what was projected to be fast is slow here, so that ranks turn round. ``failing`` pass no more."""

    protocol = 3
    opened: ClassVar[list[Gpu]] = []
    failing: ClassVar[set[str]] = set()
    interrupt_at: ClassVar[int | None] = None
    die_at: ClassVar[int | None] = None

    def __init__(self, device: str = "cuda:0", target: str | None = None, **_: Any) -> None:
        super().__init__(parallel=1, device=DEVICE if device == "cpu" else GPU)
        self.target = target
        self.requests: list[EvaluationRequest] = []
        self.opened.append(self)

    def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
        self.requests.append(request)
        if len(self.requests) == self.die_at:
            raise EvaluatorError("the judge died.")
        if len(self.requests) == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        found = super().evaluate(request)
        if request.code in self.failing:
            return EvaluationResult(Outcome.WRONG_RESULT, Stage.CHECK, "element 3 differs", basis=Basis.MEASURED)
        if found.time_ms is None or self.device().basis is Basis.PROJECTED:
            return found
        time_ms = 4.0 - found.time_ms
        return replace(
            found, basis=Basis.MEASURED, time_ms=time_ms, baselines={"eager": 8.0}, speedup={"eager": 8.0 / time_ms}
        )


@cache
def _finished() -> bytes:
    """The file of a finished search: run once, copied for each test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grove.db"
        with open_store(path, create=True) as store:
            controller(store, FakeProposer(failing=0.2)).run()
        return path.read_bytes()


@pytest.fixture
def grove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished search of a few ideas, projected on the cpu for an H100."""
    monkeypatch.setattr(Gpu, "opened", [])
    monkeypatch.setattr(Gpu, "failing", set())
    monkeypatch.setattr(Gpu, "interrupt_at", None)
    monkeypatch.setattr(Gpu, "die_at", None)
    monkeypatch.setattr("kernelgrove.engine.evaluator.pool.Pool", Gpu)
    path = tmp_path / "grove.db"
    path.write_bytes(_finished())
    return path


def run(grove: Path, *arguments: str) -> int:
    return cli.run(["replay", "s1", "--db", str(grove), *arguments])


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def everything(grove: Path) -> dict[str, Any]:
    """What a replay must not touch: tree, best, and every evaluation that was there."""
    with open_store(grove) as store, store.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM evaluation WHERE job_id IS NOT NULL ORDER BY id").all()
        return {
            "tree": documents.tree_document(store, 1),
            "best": documents.best(store, 1),
            "search": documents.search_document(store, 1),
            "evaluations": [tuple(row) for row in rows],
        }


def added(grove: Path) -> list[Any]:
    with open_store(grove) as store, store.read() as connection:
        return list(connection.exec_driver_sql("SELECT * FROM evaluation WHERE job_id IS NULL ORDER BY id").all())


def test_a_replay_adds_evaluations_and_touches_nothing_else(grove: Path) -> None:
    before = everything(grove)
    assert run(grove, "--top", "3", "--device", "cuda:0", "--tolerance", "0.01", "--trials", "2") == 0
    assert everything(grove) == before
    rows = added(grove)
    assert len(rows) == 3
    assert {(r.basis, r.device_key, r.target, r.tolerance, r.protocol, r.size_key) for r in rows} == {
        ("measured", "NVIDIA H200", "H200", 0.01, 3, INSTANCE.key)
    }
    assert {request.trials for request in Gpu.opened[0].requests} == {2}
    assert Gpu.opened[0].closed


def test_old_and_new_stand_side_by_side_with_their_ranks_and_what_changed(
    grove: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(grove, "--top", "3", "--json") == 0
    rows = document(capsys)["implementations"]
    assert [row["old"]["rank"] for row in rows] == [1, 2, 3]
    assert [row["new"]["rank"] for row in rows] == [3, 2, 1]  # this GPU turns them round
    for row in rows:
        assert (row["old"]["basis"], row["new"]["basis"]) == ("projected", "measured")
        assert row["new"]["time_ms"] == pytest.approx(4.0 - row["old"]["time_ms"])
        changed = {change["what"]: (change["old"], change["new"]) for change in row["changed"]}
        assert changed["device"] == ("cpu->H100", "NVIDIA H200")
        assert changed["basis"] == ("projected", "measured")
        assert changed["protocol"] == (1, 3)
        assert "precision" not in changed


def test_projected_and_measured_figures_are_not_divided(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(grove, "--top", "3") == 0
    text = capsys.readouterr().out
    assert "old time (projected for H100)" in text and "new time (measured on NVIDIA H200)" in text
    assert "÷" not in text
    assert "figures that are projected and figures that are measured are not compared" in text
    assert "old over eager" in text and "new over eager" in text


def test_figures_of_one_basis_are_divided(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(grove, "--top", "2", "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert "new ÷ old" in text and "1.000" in text
    assert Gpu.opened[0].target == "H100"  # the search's own, so that the figures compare


def test_lineage_takes_what_the_best_were_made_from(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(grove) as store:
        view = store.tree(1)
        made = next(i for i in view.best(99) if view.nodes[i.node].base is not None)
        base = view.nodes[made.node].base
        top = [i.id for i in view.best(99)].index(made.id) + 1
        alone = {c.implementation for c in replay.choose(store, 1, top)}
        whole = replay.choose(store, 1, top, lineage=True)
    assert base is not None and len(alone) == top
    assert base in {c.implementation for c in whole}
    assert [c.why for c in whole[:top]] == ["best"] * top
    assert all(c.why == "ancestor" for c in whole[top:])
    assert len({c.program for c in whole}) == len(whole)
    assert run(grove, "--top", str(top), "--lineage", "--json") == 0
    assert len(document(capsys)["implementations"]) == len(whole)


def test_what_an_earlier_replay_judged_is_not_judged_again_unless_asked(
    grove: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(grove, "--top", "2", "--device", "cpu", "--json") == 0
    first = document(capsys)["implementations"]
    assert not any(row["kept"] for row in first), "the search's own evaluations must not stand for a replay's"
    assert run(grove, "--top", "3", "--device", "cpu", "--json") == 0
    second = document(capsys)["implementations"]
    assert [row["kept"] for row in second] == [True, True, False]
    assert second[0]["new"]["evaluation"] == first[0]["new"]["evaluation"]
    assert len(Gpu.opened[1].requests) == 1
    assert run(grove, "--top", "3", "--device", "cpu", "--tolerance", "0.5") == 0  # other rules
    assert run(grove, "--top", "3", "--device", "cpu", "--again") == 0
    assert [len(pool.requests) for pool in Gpu.opened] == [2, 1, 3, 3]


def test_a_judge_that_dies_leaves_what_was_done_and_the_next_replay_goes_on(grove: Path) -> None:
    Gpu.die_at = 3
    assert run(grove, "--top", "4") == 3
    assert len(added(grove)) == 2
    Gpu.die_at = None
    assert run(grove, "--top", "4") == 0
    assert len(added(grove)) == 4
    assert len(Gpu.opened[1].requests) == 2


def test_ctrl_c_keeps_what_is_being_judged_and_ends_with_130(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Gpu.interrupt_at = 2
    assert run(grove, "--top", "4", "--json") == 130
    found = document(capsys)
    assert len(found["implementations"]) == 2 and found["left"] == 2
    assert len(added(grove)) == 2


def test_a_second_ctrl_c_stops_at_once(grove: Path) -> None:
    from kernelgrove.engine.interrupt import guard

    once, closed = threading.Event(), threading.Event()

    class Stuck(FakeEvaluator):
        def evaluate(self, request: EvaluationRequest) -> EvaluationResult:
            os.kill(os.getpid(), signal.SIGINT)
            once.wait(20)
            os.kill(os.getpid(), signal.SIGINT)
            closed.wait(20)
            raise EvaluatorError("the evaluator was closed.")

    class Run(replay.Replay):
        def stop_softly(self) -> None:
            super().stop_softly()
            once.set()

    with open_store(grove) as store:
        run = Run(store, Stuck(parallel=1), EvaluationRequest(INSTANCE, ""))
        with pytest.raises(KeyboardInterrupt), guard(run):
            run.run(replay.choose(store, 1, 2))
    closed.set()
    assert not added(grove)


def test_a_program_that_no_longer_passes_ends_with_1(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(grove) as store:
        Gpu.failing = {documents.leaders(store, 1, 1)[0]["code"]}
    assert run(grove, "--top", "2") == 1
    text = capsys.readouterr().out
    assert "ok → wrong_result" in text and "1 → -" in text
    assert run(grove, "--top", "2", "--json") == 1
    assert document(capsys)["implementations"][0]["new"]["message"] == "element 3 differs"


def test_show_lists_every_evaluation_of_a_program(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(grove, "--top", "1", "--json") == 0
    row = document(capsys)["implementations"][0]
    wanted = [row["old"]["evaluation"], row["new"]["evaluation"]]
    assert cli.run(["show", row["implementation"], "--db", str(grove), "--json"]) == 0
    shown = document(capsys)
    assert shown["evaluation"]["evaluation"] == wanted[0]
    assert shown["evaluations"] == wanted
    assert [line["basis"] for line in shown["history"]] == ["projected", "measured"]
    assert cli.run(["show", row["implementation"], "--db", str(grove)]) == 0
    assert "(measured on NVIDIA H200)" in capsys.readouterr().out


def test_nothing_to_replay_and_nothing_to_replay_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grove.db"
    with open_store(path, create=True) as store:
        store.create_search(spec(), ROOT_IDEA)
        missing = placeholder("their_softmax")
        instance = Instance(missing.name, missing.digest, "given", missing.source, "given", missing.source)
        store.create_search(spec(problem=missing, instance=instance), ROOT_IDEA)
    assert cli.run(["replay", "s1", "--db", str(path)]) == 1
    assert "s1: no implementation has passed, so there is nothing to replay." in capsys.readouterr().err
    assert cli.run(["replay", "s2", "--db", str(path)]) == 2
    assert capsys.readouterr().err == (
        "error: The reference of their_softmax is not in this grove, so nothing can be judged against it: "
        "import the file again with --problem FILE.\n"
    )


def test_an_evaluation_of_another_problem_or_of_nothing_is_refused(grove: Path) -> None:
    ended = EvaluatedResult(EvaluationResult(Outcome.OK, Stage.TIME, time_ms=1.0), GPU)
    other = Problem("other", "class Model: ...")
    elsewhere = Instance("other", other.digest, "full", other.source, "full", other.source)
    with open_store(grove) as store:
        with pytest.raises(StoreError, match="another problem"):
            store.add_evaluation(1, EvaluationRequest(elsewhere, ""), 1, ended)
        with pytest.raises(NotFound, match="i999"):
            store.add_evaluation(999, EvaluationRequest(INSTANCE, ""), 1, ended)
    assert not added(grove)


def test_an_implementation_without_an_evaluation_stays_without_one(tmp_path: Path) -> None:
    """Only the search's own job gives an implementation its evaluation: a replay must not decide a search."""
    path = tmp_path / "grove.db"
    with open_store(path, create=True) as store:
        run = controller(store, FakeProposer(failing=0.0), FakeEvaluator(), budget=_one())
        run.run()
        view = store.tree(1)
        assert SMALL and view.implementations
        unjudged = [i for i in view.implementations.values() if i.evaluation is None]
        for made in unjudged or list(view.implementations.values())[:1]:
            _add(store, made.id)
        assert store.tree(1) == view


def _one() -> Any:
    from kernelgrove.engine.budget import Budget

    return Budget(evaluations=1)


def _add(store: SqliteStore, implementation: int) -> None:
    ended = EvaluatedResult(EvaluationResult(Outcome.OK, Stage.TIME, time_ms=1.0, basis=Basis.PROJECTED), DEVICE)
    store.add_evaluation(implementation, EvaluationRequest(INSTANCE, ""), 1, ended)


# ------------------------------------------------------------------------------------------- what a query finds


def test_what_a_query_finds_is_judged_failures_too(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By search, in each what passed first, fastest first: today's rules may pass what failed then."""
    with open_store(grove) as store:
        controller(store, FakeProposer(failing=0.2), search=store.create_search(spec(tolerance=0.5), ROOT_IDEA)).run()
        made = {n: store.tree(n).implementations for n in (1, 2)}
    arguments = ["replay", "outcome in (ok, wrong_result)", "--device", "cuda:0", "--db", str(grove)]
    before = everything(grove)
    assert cli.run([*arguments, "--json"]) == 0
    assert everything(grove)["tree"] == before["tree"]
    found = document(capsys)
    assert [one["search"] for one in found["searches"]] == ["s1", "s2"]
    for number, one in enumerate(found["searches"], 1):
        rows = one["implementations"]
        assert {row["why"] for row in rows} == {"asked"}
        assert [row["implementation"] for row in rows] == [
            f"i{i.id}"
            for i in sorted(made[number].values(), key=lambda i: (not i.ok, i.time_ms or 0.0, i.id))
            if i.duplicate_of is None
        ]
        assert {row["old"]["outcome"] for row in rows} == {"ok", "wrong_result"}
    assert len(added(grove)) == sum(i.duplicate_of is None for n in made for i in made[n].values())
    assert cli.run([*arguments, "--top", "1"]) == 0  # all of it is known by now
    text = capsys.readouterr().out
    assert "s1 (toy)" in text and "s2 (toy)" in text and len(added(grove)) == len(Gpu.opened[0].requests) * 2


def test_a_query_that_finds_nothing_or_something_else(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", "time_ms > 1000", "--db", str(grove)]) == 1
    assert "finds no implementation" in capsys.readouterr().err
    assert cli.run(["replay", "outcome = ok | count by outcome", "--db", str(grove)]) == 2
    assert "gives no implementations" in capsys.readouterr().err
    assert cli.run(["replay", "speedp > 1", "--db", str(grove)]) == 2
    assert "Did you mean speedup?" in capsys.readouterr().err
    assert cli.run(["replay", "nosuchname", "--db", str(grove)]) == 2
    assert not Gpu.opened


# --------------------------------------------------------------------------------------- going on from a replay


def test_a_search_goes_on_elsewhere_from_what_survived(
    grove: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelgrove.engine.search.proposers_of", lambda models, options: [FakeProposer()])
    with open_store(grove) as store:
        best = documents.leaders(store, 1, 3)
        Gpu.failing = {best[0]["code"]}
        old = store.tree(1)
    assert run(grove, "--top", "3", "--lineage", "--device", "cuda:0") == 1, "one does not pass there"
    before = everything(grove)
    capsys.readouterr()
    arguments = ["resume", "s1", "--from-replay", "--device", "cuda:0", "--db", str(grove)]
    assert cli.run([*arguments, "--budget-evals", "9", "--json"]) == 0
    assert everything(grove)["tree"] == before["tree"], "the search before stays what it was"
    found = document(capsys)
    assert (found["search"], found["basis"], found["device_key"]) == ("s2", "measured", "NVIDIA H200")
    with open_store(grove) as store:
        view, record = store.tree(2), store.search(2)
        assert record.spec.options["from_replay"] == "s1" and record.spec.protocol == Gpu.protocol
        seeded = [i for i in view.implementations.values() if "passed a replay" in note(store, i.id)]
        lost = old.implementations[int(best[0]["implementation"][1:])].program
        assert len(seeded) >= 2 and lost not in {i.program for i in seeded}
        assert all(i.ok and i.evaluation.basis is Basis.MEASURED for i in seeded if i.evaluation)
        assert {view.nodes[i.node].round for i in seeded} == {0}
        grown = [n for n in view.nodes.values() if n.base is not None and n.round > 0]
        assert grown and {n.base for n in grown} & {i.id for i in seeded}, "new ideas build on survivors"
        assert len({n.address for n in view.nodes.values()}) == len(view.nodes)
        assert len({job.key for job in view.jobs}) == len(view.jobs)
    assert cli.run(["verify", "--db", str(grove)]) == 0
    exported, copy = grove.with_name("s2.jsonl"), grove.with_name("copy.db")
    assert cli.run(["export", "s2", "-o", str(exported), "--db", str(grove)]) == 0
    assert cli.run(["import", str(exported), "--db", str(copy)]) == 0
    with open_store(copy) as store:
        assert [n.address for n in store.tree(1).nodes.values()] == [n.address for n in view.nodes.values()]


def note(store: SqliteStore, implementation: int) -> str:
    return str(documents.show_document(store, f"i{implementation}")["note"])


def test_survivors_keep_their_places_under_each_other(grove: Path) -> None:
    assert run(grove, "--top", "9", "--lineage", "--device", "cuda:0") == 0
    with open_store(grove) as store:
        old, first = store.tree(1), Gpu.opened[0].requests[0]
        seeds = store.survivors(1, first, Gpu.protocol, GPU)
        assert seeds == store.survivors(1, first, Gpu.protocol, GPU)
        assert store.survivors(1, first, Gpu.protocol + 1, GPU) == []
        assert store.survivors(1, replace(first, tolerance=0.5), Gpu.protocol, GPU) == []
        assert store.survivors(1, first, Gpu.protocol, replace(GPU, key="NVIDIA H100")) == []
        search = store.create_from_survivors(replace(spec(), device=GPU), ROOT_IDEA, seeds)
        new = store.tree(search)

        def told(view: Any) -> set[tuple[str, str, str]]:
            """Idea, the idea it hangs under, the program it builds on."""
            return {
                (
                    n.idea.text,
                    "" if n.parent is None else view.nodes[n.parent].idea.text,
                    "" if n.base is None else view.implementations[n.base].program,
                )
                for n in view.nodes.values()
                if any(i.ok and i.duplicate_of is None for i in view.implementations_of(n.id))
            }

        assert told(new) == {row for row in told(old) if row[0] != ROOT_IDEA.text} | {
            (ROOT_IDEA.text, ROOT_IDEA.text, "")
        }
        assert not new.in_flight() and [j.state.value for j in new.jobs] == ["done"] * len(new.jobs)


def test_without_a_replay_here_there_is_nothing_to_go_on_from(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["resume", "s1", "--from-replay", "--device", "cuda:0", "--db", str(grove)]) == 2
    said = capsys.readouterr().err
    assert "Nothing of s1 has passed a replay on NVIDIA H200 for H200" in said and "kernelgrove replay s1" in said
    assert cli.run(["resume", "s1", "--target", "A100", "--db", str(grove)]) == 2
    with open_store(grove) as store:
        assert len(documents.list_document(store)) == 1
