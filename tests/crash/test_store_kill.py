"""kill -9 at any moment: whatever the store said was done is there afterwards, and nothing is there twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from kernelgrove.errors import NotFound
from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    JobState,
    Outcome,
    Problem,
    SearchStatus,
    Stage,
)
from kernelgrove.ports import (
    CodeResult,
    EvaluatedResult,
    IdeasResult,
    Job,
    PlannedJob,
    Proposal,
    ProposalRequest,
    SearchSpec,
)
from kernelgrove.storage import open_store

KILLS = 20

PROBLEM = Problem("p", "class Model: ...")
INSTANCE = Instance("p", PROBLEM.digest, "full", "x", "full", "x")
DEVICE = Device("cpu", "H100", "cpu->H100", Basis.PROJECTED)
SPEC = SearchSpec(PROBLEM, INSTANCE, DEVICE, "branch", {}, (), 1)


def write_for_ever(path: Path, owner: str, acknowledge: int) -> None:
    """Loop through the life of a search, telling each fact to the pipe once the store has acknowledged it."""

    def say(*words: object) -> None:
        os.write(acknowledge, (" ".join(map(str, words)) + "\n").encode())

    def take(kind: JobKind) -> Job:
        job = store.claim(search, owner, [kind], 60)
        assert job is not None
        return job

    say("open")
    store = open_store(path, create=True)
    for turn in itertools.count():
        search = store.create_search(SPEC, Idea("root"))
        say("search", search)
        root = store.tree(search).root
        store.record(search, 0, [], [PlannedJob(JobKind.IDEATE, "ideate:r", {"parent": root})])
        say("step", search, 1)
        job = take(JobKind.IDEATE)
        request = ProposalRequest(JobKind.IDEATE, job.key, PROBLEM, INSTANCE, "H100", "triton", 1)
        call = store.plan_completion(job, "rules", request, 1.0, 10)
        store.mark_sent(call)
        say("sent", call)
        store.settle_completion(call, True, Proposal((Idea("a"), Idea("b"))))
        say("settled", call)
        store.finish(job, IdeasResult((Idea("a"), Idea("b")), "rules"))
        say("done", job.id)
        nodes = [n for n in store.tree(search).nodes if n != root]
        store.record(search, 1, [], [PlannedJob(JobKind.IMPLEMENT, f"i:{n}", {}, node=n) for n in nodes])
        say("step", search, 2)
        for node in nodes:
            job = take(JobKind.IMPLEMENT)
            name = f"{owner}_{turn}_{node}"
            store.finish(job, CodeResult(f"X = '{name}'\n" * 50, "rules"))
            say("done", job.id)
            say("code", name)
            job = take(JobKind.EVALUATE)
            result = EvaluationResult(Outcome.OK, Stage.TIME, time_ms=1.0, basis=Basis.PROJECTED)
            store.finish(job, EvaluatedResult(result, DEVICE))
            say("done", job.id)
        store.set_status(search, SearchStatus.FINISHED)
        say("finished", search)


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "grove.db"
    said: set[tuple[str, ...]] = set()
    chance = random.Random(20)
    for kill in range(KILLS):
        said |= _run_and_kill(path, f"writer{kill}", chance)
        _check(path, said)
    kinds = Counter(words[0] for words in said)
    assert all(kinds[kind] for kind in ("search", "step", "sent", "settled", "done", "code", "finished")), kinds


def _run_and_kill(path: Path, owner: str, chance: random.Random) -> set[tuple[str, ...]]:
    """Fork a writer, kill it at a random moment after it opens the store, and return what it acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            write_for_ever(path, owner, writer)
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(chance.uniform(0.0, 0.5))
    os.kill(child, signal.SIGKILL)
    with open(reader) as pipe:  # noqa: PTH123
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), text
    return {tuple(line.split()) for line in text.splitlines() if line != "open"}


def _check(path: Path, said: set[tuple[str, ...]]) -> None:
    try:
        store = open_store(path)
    except NotFound:  # killed before the file was a database
        assert not said
        return
    with store:
        for search in {int(words[1]) for words in said if words[0] in ("search", "step")}:
            store.recover(search, lambda _: False)
            view = store.tree(search)
            assert view.step >= max((int(w[2]) for w in said if w[:2] == ("step", str(search))), default=0)
            assert not [job for job in view.jobs if job.state is JobState.LEASED]
            addresses = [n.address for n in view.nodes.values()] + [i.address for i in view.implementations.values()]
            assert len(addresses) == len(set(addresses))
            done = {job.node for job in view.jobs if job.kind is JobKind.IMPLEMENT and job.state is JobState.DONE}
            assert done == {i.node for i in view.implementations.values()}
    raw = sqlite3.connect(path)
    try:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        finished = {str(row[0]) for row in raw.execute("SELECT id FROM search WHERE status = 'finished'")}
        done_jobs = {str(row[0]) for row in raw.execute("SELECT id FROM job WHERE state = 'done'")}
        calls = {str(row[0]): row[1] for row in raw.execute("SELECT id, state FROM completion")}
        codes = {row[0].split("'")[1] for row in raw.execute("SELECT code FROM program")}
        judged = raw.execute(
            "SELECT count(*) FROM job WHERE kind = 'evaluate' AND state = 'done'"
            " AND id NOT IN (SELECT job_id FROM evaluation)"
        ).fetchone()
    finally:
        raw.close()
    assert judged == (0,)
    for kind, *words in said:
        match kind:
            case "finished":
                assert words[0] in finished
            case "done":
                assert words[0] in done_jobs
            case "sent":
                assert calls[words[0]] in ("ok", "unknown")
            case "settled":
                assert calls[words[0]] == "ok"
            case "code":
                assert words[0] in codes


CLAIMER = """
import sys
from kernelgrove.model import JobKind
from kernelgrove.storage import open_store

with open_store(sys.argv[1]) as store:
    print(store.claim(None, sys.argv[2], [JobKind.IDEATE], 600).id, flush=True)
    sys.stdin.readline()  # until the other is here too
    while (job := store.claim(None, sys.argv[2], [JobKind.EVALUATE, JobKind.IDEATE], 600)) is not None:
        print(job.id, flush=True)
"""


def test_two_processes_never_claim_the_same_job(tmp_path: Path) -> None:
    path, jobs = tmp_path / "grove.db", 120
    with open_store(path, create=True) as store:
        search = store.create_search(SPEC, Idea("root"))
        planned = [PlannedJob(JobKind.IDEATE, f"k{n}", {"parent": store.tree(search).root}) for n in range(jobs)]
        ids = store.record(search, 0, [], planned)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("ann", "bob")
    ]
    taken = [int(claimer.stdout.readline()) for claimer in claimers if claimer.stdout]
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    for claimer in claimers:
        taken += [int(line) for line in claimer.communicate(timeout=60)[0].split()]
    assert sorted(taken) == sorted(ids)


def test_two_processes_may_create_the_same_file(tmp_path: Path) -> None:
    code = "import sys; from kernelgrove.storage import open_store; open_store(sys.argv[1], create=True).close()"
    makers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "grove.db")]) for _ in range(3)]
    assert [maker.wait(timeout=60) for maker in makers] == [0, 0, 0]
