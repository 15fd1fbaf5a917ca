"""The job machine against a model of it in twenty lines of Python, driven by Hypothesis."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernelgrove.model import Basis, Device, Idea, Instance, JobKind, JobState, Problem
from kernelgrove.ports import IdeasResult, Job, PlannedJob, SearchSpec
from kernelgrove.storage import SqliteStore, open_store

PROBLEM = Problem("p", "class Model: ...")
SPEC = SearchSpec(
    problem=PROBLEM,
    instance=Instance("p", PROBLEM.digest, "full", "x", "full", "x"),
    device=Device("cpu", "H100", "cpu->H100", Basis.PROJECTED),
    strategy="branch",
    strategy_options={},
    models=(),
    seed=1,
)
OWNERS = st.sampled_from(["ann", "host:7:boot.1:controller.1", "host:8:boot.2:controller.1"])
ATTEMPTS = 3


@dataclass
class Model:
    """What a job must be like."""

    state: JobState = JobState.QUEUED
    attempt: int = 1
    owner: str | None = None
    expired: bool = False
    results: int = 0

    def held_by(self, job: Job) -> bool:
        return (self.state, self.owner, self.attempt) == (JobState.LEASED, job.owner, job.attempt)

    def lose(self) -> None:
        if self.attempt >= ATTEMPTS:
            self.state = JobState.DEAD
        else:
            self.state, self.attempt = JobState.QUEUED, self.attempt + 1
        self.owner, self.expired = None, False


class JobMachine(RuleBasedStateMachine):
    """Owners claim, renew, finish, fail and vanish, with handles old and new, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store: SqliteStore = open_store(Path(self.folder.name) / "grove.db", create=True)
        self.search = self.store.create_search(SPEC, Idea("root"))
        self.root = self.store.tree(self.search).root
        self.steps = 0
        self.jobs: dict[int, Model] = {}
        self.handles: list[Job] = []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @precondition(lambda self: len(self.jobs) < 4)
    @rule()
    def plan(self) -> None:
        planned = PlannedJob(JobKind.IDEATE, f"k{self.steps}", {"parent": self.root}, max_attempts=ATTEMPTS)
        (id_,) = self.store.record(self.search, self.steps, [], [planned])
        self.steps += 1
        self.jobs[id_] = Model()

    @rule(owner=OWNERS, lease_s=st.sampled_from([0.0, 3600.0]))
    def claim(self, owner: str, lease_s: float) -> None:
        job = self.store.claim(None, owner, [JobKind.IDEATE], lease_s)
        for taken in sorted(self.jobs):
            model = self.jobs[taken]
            if model.state is JobState.QUEUED or (model.expired and (model.owner != owner or ":" not in owner)):
                if not model.expired or model.attempt < ATTEMPTS:
                    break
                model.lose()  # found on the way to one that can be had
        else:
            assert job is None
            return
        assert job is not None and job.id == taken
        model.attempt += model.expired
        model.state, model.owner, model.expired = JobState.LEASED, owner, lease_s == 0
        assert job.attempt == model.attempt
        self.handles.append(job)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), lease_s=st.sampled_from([0.0, 3600.0]))
    def renew(self, data: st.DataObject, lease_s: float) -> None:
        job = data.draw(st.sampled_from(self.handles))
        model = self.jobs[job.id]
        held = model.held_by(job)
        assert self.store.renew(job, lease_s) is held
        if held:
            model.expired = lease_s == 0

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.handles))
        model = self.jobs[job.id]
        held = model.held_by(job)
        assert self.store.finish(job, IdeasResult((Idea("a"), Idea("b")), job.owner)) is held
        if held:
            model.state, model.owner, model.expired = JobState.DONE, None, False
            model.results += 1

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), retry=st.booleans())
    def fail(self, data: st.DataObject, retry: bool) -> None:
        job = data.draw(st.sampled_from(self.handles))
        model = self.jobs[job.id]
        held = model.held_by(job)
        assert self.store.fail(job, "why", retry) is held
        if held and retry:
            model.lose()
        elif held:
            model.state, model.owner, model.expired = JobState.FAILED, None, False

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        held = [m for m in self.jobs.values() if m.state is JobState.LEASED and m.owner == owner]
        assert self.store.release(owner) == len(held)
        for model in held:
            model.state, model.owner, model.expired = JobState.QUEUED, None, False

    @rule(gone=st.sets(OWNERS))
    def recover(self, gone: set[str]) -> None:
        lost = [m for m in self.jobs.values() if m.state is JobState.LEASED and (m.expired or m.owner in gone)]
        for model in lost:
            model.lose()
        requeued = sum(m.state is JobState.QUEUED for m in lost)
        assert self.store.recover(self.search, lambda owner: owner not in gone) == requeued

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(Path(self.folder.name) / "grove.db")

    @invariant()
    def the_store_agrees(self) -> None:
        view = self.store.tree(self.search)
        assert {job.id: job.state for job in view.jobs} == {id_: m.state for id_, m in self.jobs.items()}
        assert all(m.results <= 1 and 1 <= m.attempt <= ATTEMPTS for m in self.jobs.values())
        assert len(view.nodes) == 1 + 2 * sum(m.results for m in self.jobs.values())
        assert view.step == self.steps


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
