"""Tasks for people and agents, and evaluations for another machine: a search driven from a file, step by step."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_search import FakeEvaluator, FakeProposer, controller, spec

from kernelgrove import cli, strategies
from kernelgrove.engine import tasks
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.drain import Drain, fitting, queued
from kernelgrove.errors import Conflict, EvaluatorError, NotFound, UsageError
from kernelgrove.model import Basis, Device, JobKind, JobState, Outcome, SearchStatus, StoppedBy
from kernelgrove.storage.store import SqliteStore, open_store
from kernelgrove.storage.tasks import open_tasks, task

TREE = {"rounds": 2, "widths": 2, "depths": 1}
IDEAS = '{"ideas": [{"text": "Use tiles"}, {"text": "Use warps"}]}'


def program(fate: str) -> str:
    return f"```python\n'{fate}'\n\n\nclass ModelNew:\n    pass\n```"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as opened:
        yield opened


@pytest.fixture
def search(store: SqliteStore) -> int:
    """A search whose first task waits."""
    number = store.create_search(spec(models=("queue",)), ROOT_IDEA)
    assert advance(store, number) is StoppedBy.WAITING
    return number


def advance(store: SqliteStore, search: int, evaluator: Any = "fake", **more: Any) -> StoppedBy:
    run = controller(
        store, [], evaluator=FakeEvaluator() if evaluator == "fake" else evaluator, search=search,
        strategy=strategies.make("branch", TREE), **more,
    )  # fmt: skip
    run._proposers = run._proposers.of([])  # nobody is asked here
    if evaluator is None:
        run._evaluator = None
    return run.run()


def command(store: SqliteStore, *words: str) -> int:
    return cli.run([*words, "--db", str(store.location.path)])


def test_a_search_is_driven_from_outside_to_its_end(store: SqliteStore, search: int) -> None:
    asked = []
    while True:
        found = tasks.take(store, None, "ann", 60.0)
        if found is None:
            if advance(store, search) is StoppedBy.STRATEGY:
                break
            continue
        shown = tasks.show_task(store, found)
        asked.append(str(found.job.kind))
        answer = IDEAS if found.job.kind is JobKind.IDEATE else program(f"ok {2 - len(asked) / 10} {found.id}")
        assert "taken" in tasks.answer(store, found.id, answer, "ann")
        assert "# Your task" in shown.prompt.text
    assert asked[0] == "implement" and asked.count("implement") == 3 and set(asked) == {"implement", "ideate"}
    view = store.tree(search)
    assert len(view.nodes) == 3 and all(i.ok and i.model == "queue:ann" for i in view.implementations.values())
    assert store.search(search).status is SearchStatus.FINISHED
    assert store.spent(search).calls == len(asked), "each answer is in the ledger, and can be replayed"


def test_replayed_it_gives_the_same_tree(store: SqliteStore, search: int, tmp_path: Path) -> None:
    test_a_search_is_driven_from_outside_to_its_end(store, search)
    from kernelgrove.engine.proposers.base import make

    replay = make(f"recorded:{store.location.path}")
    with open_store(tmp_path / "again.db", create=True) as other:
        run = controller(other, [replay], strategy=strategies.make("branch", TREE))
        assert run.run() is StoppedBy.STRATEGY
        first, second = store.tree(search), other.tree(run.search_id)
        assert {n.address: n.idea for n in first.nodes.values()} == {n.address: n.idea for n in second.nodes.values()}
        assert {i.address: i.program for i in first.implementations.values()} == {
            i.address: i.program for i in second.implementations.values()
        }


def test_an_answer_that_breaks_the_contract_is_refused_and_the_task_stays(
    store: SqliteStore, search: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.md"
    answer.write_text("```python\nclass ModelNew(:\n```")
    assert command(store, "tasks", "answer", "t1", "--file", str(answer)) == 2
    said = capsys.readouterr().err
    assert "does not parse" in said and "stays open" in said and said.count("\n") == 1
    assert task(store, "t1").holder is None and store.spent(search).calls == 0
    answer.write_text(program("ok 1.0 a"))
    assert command(store, "tasks", "answer", "t1", "--file", str(answer)) == 0
    assert command(store, "tasks", "answer", "t1", "--file", str(answer)) == 2
    assert "t1 is over (done)" in capsys.readouterr().err


def test_ls_next_show_release(store: SqliteStore, search: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "tasks", "ls", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["task"], listed["kind"], listed["state"], listed["holder"]) == ("t1", "implement", "open", None)
    assert command(store, "tasks", "next", "--as", "ann b", "--lease", "90s", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {"task", "kind", "prompt", "contract"} <= set(document)
    assert document["contract"]["answer"] == "python" and document["contract"]["class"] == "ModelNew"
    assert document["lease_until"] == pytest.approx(time.time() + 90, abs=20)
    assert command(store, "tasks", "next", "--json") == 1, "it is held"
    assert json.loads(capsys.readouterr().out) is None
    assert command(store, "tasks", "ls") == 0
    assert "ann-b" in capsys.readouterr().out
    assert command(store, "tasks", "show", "t1") == 0
    assert document["prompt"] in capsys.readouterr().out
    assert command(store, "tasks", "release", "t1") == 0
    assert command(store, "tasks", "release", "t1") == 2
    assert task(store, "t1").job.attempt == 1, "giving back charges no attempt"


def test_a_lease_that_is_over_is_open_again(store: SqliteStore, search: int) -> None:
    assert tasks.take(store, search, "slow", 0.05) is not None
    time.sleep(0.1)
    found = task(store, "t1")
    assert found.holder is None and found.state is JobState.QUEUED
    again = tasks.take(store, search, "quick", 60.0)
    assert again is not None and again.holder == "task/quick" and again.job.attempt == 2
    assert "taken" in tasks.answer(store, "t1", program("ok 1.0 a"), "quick")


def test_no_controller_takes_a_held_task_back(store: SqliteStore, search: int) -> None:
    tasks.take(store, search, "ann", 60.0)
    assert advance(store, search) is StoppedBy.WAITING, "nor waits for it: only others' work remains"
    held = task(store, "t1")
    assert held.holder == "task/ann" and held.job.attempt == 1


def test_wrong_names_are_said(store: SqliteStore, search: int) -> None:
    with pytest.raises(NotFound, match="t99"):
        tasks.answer(store, "t99", "x")
    with pytest.raises(UsageError, match="not an id"):
        tasks.answer(store, "seven", "x")
    tasks.answer(store, "t1", program("ok 1.0 a"))
    with pytest.raises(UsageError, match="is an evaluation"):
        tasks.answer(store, "t2", "x")


def test_a_task_that_a_search_is_asking_a_model_for_is_not_answered(store: SqliteStore) -> None:
    number = store.create_search(spec(), ROOT_IDEA)
    asked, go = threading.Event(), threading.Event()

    def hold(request: Any) -> float:
        asked.set()
        go.wait(10)
        return 0.0

    run = controller(
        store, FakeProposer(delay=hold), search=number, strategy=strategies.make("zero_shot", {"samples": 1})
    )
    thread = threading.Thread(target=run.run)
    thread.start()
    try:
        assert asked.wait(10)
        assert open_tasks(store) == [], "only searches that were left to the queue"
        with pytest.raises(UsageError, match="running search"):
            tasks.answer(store, "t1", program("ok 1.0 a"))
    finally:
        go.set()
        thread.join(10)


def test_two_who_answer_at_once(store: SqliteStore, search: int) -> None:
    said: list[object] = []

    def answer(name: str) -> None:
        try:
            said.append(tasks.answer(store, "t1", program(f"ok 1.0 {name}"), name))
        except (Conflict, UsageError) as late:
            said.append(late)

    threads = [threading.Thread(target=answer, args=(name,)) for name in ("ann", "bob", "cat")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(isinstance(x, str) for x in said) == 1 and len(store.tree(search).implementations) == 1


def test_a_patient_run_goes_on_when_answers_come(store: SqliteStore, search: int) -> None:
    ended: list[StoppedBy] = []
    thread = threading.Thread(target=lambda: ended.append(advance(store, search, patient=True)))
    thread.start()
    deadline = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < deadline:
        found = tasks.take(store, search, "ann", 60.0)
        if found is None:
            time.sleep(0.05)
            continue
        tasks.answer(store, found.id, IDEAS if found.job.kind is JobKind.IDEATE else program(f"ok 1.0 {found.id}"))
    thread.join(1)
    assert ended == [StoppedBy.STRATEGY]


# ------------------------------------------------------------------------------------------------- drain


def test_evaluations_wait_and_are_drained_elsewhere(store: SqliteStore) -> None:
    number = store.create_search(spec(options={"evaluator": "queue"}), ROOT_IDEA)
    run = controller(
        store, FakeProposer(failing=0.0), search=number, strategy=strategies.make("zero_shot", {"samples": 3})
    )
    run._evaluator = None
    assert run.run() is StoppedBy.WAITING and queued(store, number) == 3
    told = []
    evaluator = FakeEvaluator(parallel=2, delay=lambda request: 0.1)
    assert fitting(store, [number], _with_protocol(evaluator)) == [number]
    work = Drain(store, evaluator, [number], told.append)
    assert work.run() == 3 and queued(store, number) == 0 and evaluator.most_at_once == 2
    assert all(d.result is not None and d.result.outcome is Outcome.OK for d in told)
    again = controller(store, FakeProposer(), search=number, strategy=strategies.make("zero_shot", {"samples": 3}))
    assert again.run() is StoppedBy.STRATEGY
    assert len([i for i in store.tree(number).implementations.values() if i.ok]) == 3


def _with_protocol(evaluator: FakeEvaluator) -> FakeEvaluator:
    evaluator.protocol = 1  # type: ignore[attr-defined]
    return evaluator


def test_only_searches_on_this_very_device_are_drained(store: SqliteStore) -> None:
    here = _with_protocol(FakeEvaluator())
    mine = store.create_search(spec(), ROOT_IDEA)
    other = Device("cuda:0", "H200", "NVIDIA H200", Basis.MEASURED)
    theirs = store.create_search(spec(device=other), ROOT_IDEA)
    assert fitting(store, [mine, theirs], here) == [mine]
    old = store.create_search(spec(protocol=99), ROOT_IDEA)
    with pytest.raises(Conflict, match="protocol 99"):
        fitting(store, [old], here)
    there = _with_protocol(FakeEvaluator(device=Device("cuda:1", "H200", "NVIDIA H200 NVL", Basis.MEASURED)))
    assert fitting(store, [mine, theirs], there) == [theirs], "started where no GPU was: any card of the target will do"


def test_an_evaluator_that_keeps_failing_ends_a_drain_and_jobs_are_given_back(store: SqliteStore) -> None:
    number = store.create_search(spec(), ROOT_IDEA)
    run = controller(
        store, FakeProposer(failing=0.0), search=number, strategy=strategies.make("zero_shot", {"samples": 4})
    )
    run._evaluator = None
    run.run()
    broken = FakeEvaluator(parallel=1, raises=lambda n: EvaluatorError("the judge died"))
    with pytest.raises(EvaluatorError, match="3 times in a row"):
        Drain(store, broken, [number]).run()
    assert not [j for j in store.tree(number).jobs if j.state is JobState.LEASED]
    assert Drain(store, FakeEvaluator(), [number]).run() >= 3


def test_a_drain_is_stopped_in_order(store: SqliteStore) -> None:
    number = store.create_search(spec(), ROOT_IDEA)
    run = controller(
        store, FakeProposer(failing=0.0), search=number, strategy=strategies.make("zero_shot", {"samples": 4})
    )
    run._evaluator = None
    run.run()
    evaluator = FakeEvaluator(parallel=1)
    work = Drain(store, evaluator, [number], lambda drained: work.stop_softly())
    assert work.run() == 1 and work.stopped and queued(store, number) == 3


# --------------------------------------------------------------------------------------- the whole, once


def test_from_the_command_line_with_a_real_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """run, tasks, drain and resume, as an agent would call them: relu on the CPU, judged for real."""
    kernel = tmp_path / "kernel.md"
    kernel.write_text(
        "```python\nimport torch\nimport triton\nimport triton.language as tl\n\n\n@triton.jit\n"
        "def relu(x_ptr, y_ptr, n, BLOCK: tl.constexpr):\n"
        "    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)\n"
        "    x = tl.load(x_ptr + at, mask=at < n)\n"
        "    tl.store(y_ptr + at, tl.maximum(x, 0.0), mask=at < n)\n\n\n"
        "class ModelNew(torch.nn.Module):\n    def forward(self, x):\n        x = x.contiguous()\n"
        "        y = torch.empty_like(x)\n"
        "        relu[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)\n        return y\n```\n"
    )
    db = ["--db", str(tmp_path / "grove.db")]
    asked = [
        "run",
        "relu",
        "--model",
        "queue",
        "--evaluator",
        "queue",
        "--until-idle",
        "--device",
        "cpu",
        "--rounds",
        "1",
    ]
    assert cli.run([*asked, "--json", *db]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["stopped_by"]) == ("paused", "waiting")
    assert cli.run(["tasks", "next", "--json", *db]) == 0
    assert "torch.relu" in json.loads(capsys.readouterr().out)["prompt"]
    assert cli.run(["tasks", "answer", "t1", "--file", str(kernel), *db]) == 0
    assert cli.run(["resume", "--until-idle", "--json", *db]) == 0
    assert json.loads(capsys.readouterr().out.split("taken\n")[1])["stopped_by"] == "waiting"
    assert cli.run(["drain", "--json", *db]) == 0
    drained = json.loads(capsys.readouterr().out)
    assert drained["evaluations"] == {"ok": 1} and drained["left"] == 0
    assert cli.run(["resume", "--until-idle", "--json", *db]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "finished" and document["best"]["basis"] == "projected"
    assert cli.run(["drain", *db]) == 0 and "no evaluation is queued" in capsys.readouterr().out
