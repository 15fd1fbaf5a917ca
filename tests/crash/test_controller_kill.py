"""``kill -9`` of a process that runs a search, at random moments, and what the next one makes of it."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.errors import Conflict
from kernelgrove.model import JobState, SearchStatus, StoppedBy, TreeView
from kernelgrove.storage.store import SqliteStore, open_store

FAKES = Path(__file__).parents[1] / "unit"
sys.path.append(str(FAKES))

from fake_search import FakeEvaluator, FakeProposer, run_in_another_process, spec  # noqa: E402

# A fresh process a run, forked from one that has imported everything: a second less each.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["fake_search", "kernelgrove.engine.controller", "kernelgrove.storage.store"])


class Child:
    """A process that runs *search*, from the moment it is about to start."""

    def __init__(self, db: Path, search: int) -> None:
        started = PROCESSES.Event()
        self.result, ended = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=run_in_another_process, args=(str(db), search, started, ended))
        self.process.start()
        ended.close()
        assert started.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)

    def finish(self) -> str:
        self.process.join(60)
        assert self.process.exitcode == 0
        return str(self.result.recv())


def judged(store: SqliteStore, search: int) -> dict[int, Any]:
    return {i.id: i.evaluation for i in store.tree(search).judged()}


def dump(view: TreeView) -> dict[str, Any]:
    nodes = {n.address: n.idea.text for n in view.nodes.values()}
    programs = {i.address: (i.program, i.evaluation and i.evaluation.outcome) for i in view.implementations.values()}
    assert len(nodes) == len(view.nodes) and len(programs) == len(view.implementations), "something is there twice"
    return {"nodes": nodes, "programs": programs}


def test_killed_and_resumed_it_ends_with_the_tree_of_a_search_that_never_was(tmp_path: Path) -> None:
    """Five searches, each killed twice (a job is given up at its third lost attempt, so no job is lost here)."""
    db, moments = tmp_path / "grove.db", random.Random(os.environ.get("KILL_SEED", "1"))
    with open_store(db, create=True) as store:
        calm = store.create_search(spec(), ROOT_IDEA)
        child = Child(db, calm)
        begun = time.monotonic()
        assert child.finish() == "strategy"
        takes = time.monotonic() - begun
        whole = dump(store.tree(calm))
        assert len(whole["nodes"]) == 5 and len(whole["programs"]) >= 9
        interrupted = 0
        for _ in range(5):
            # another problem's digest would do as well: what the calm search judged must not be reused here
            search = store.create_search(spec(tolerance=moments.random()), ROOT_IDEA)
            for _ in range(2):
                child = Child(db, search)
                time.sleep(moments.uniform(0.0, takes / 2))
                shown = judged(store, search)
                child.kill()
                kept = judged(store, search)
                assert shown.items() <= kept.items(), "an evaluation that was shown is lost"
                interrupted += store.search(search).status is SearchStatus.RUNNING
            child = Child(db, search)
            assert child.finish() == "strategy"
            view = store.tree(search)
            assert kept.items() <= judged(store, search).items()
            assert not view.in_flight() and not [j for j in view.jobs if j.state is JobState.DEAD]
            assert dump(view) == whole
            record = store.search(search)
            assert (record.status, record.stopped_by) == (SearchStatus.FINISHED, StoppedBy.STRATEGY)
            with store.read() as connection:
                rows = connection.exec_driver_sql(
                    "SELECT count(*), count(DISTINCT program) FROM evaluation WHERE search_id = ?", (search,)
                ).one()
            assert rows[0] == rows[1] == len({i.program for i in view.implementations.values()}), "judged twice"
        assert interrupted >= 5, "most kills must hit a search at work"


def test_a_live_search_in_another_process_is_refused_by_its_pid(tmp_path: Path) -> None:
    from kernelgrove import strategies
    from kernelgrove.engine.budget import Budget
    from kernelgrove.engine.controller import Controller

    db = tmp_path / "grove.db"
    with open_store(db, create=True) as store:
        search = store.create_search(spec(), ROOT_IDEA)
        child = Child(db, search)
        deadline = time.monotonic() + 20
        while not store.tree(search).jobs and time.monotonic() < deadline:
            time.sleep(0.01)
        strategy = strategies.make("zero_shot", {"samples": 1})
        rival = Controller(store, search, strategy, [FakeProposer()], FakeEvaluator(), Budget())
        with pytest.raises(Conflict, match=f"being run by process {child.process.pid} on this machine"):
            rival.run()
        assert child.finish() == "strategy"
        assert rival.run() is StoppedBy.STRATEGY
