"""Groves of a given size, and one node's way through the store.

A node here is an idea, its implementation with 4 KB of code and its evaluation with 2 KB of JSON, by the calls that a
controller makes for it: a decision and a job, its claim and its end, for the idea and for the program; the claim and
the end of the evaluation. Eight transactions; the three results are on the disk when the call returns.
"""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from kernelgrove.model import (
    Basis,
    Device,
    EvaluationResult,
    Idea,
    Instance,
    JobKind,
    Outcome,
    Problem,
    Stage,
    Usage,
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
from kernelgrove.storage import SqliteStore, open_store

CODE_BYTES, DETAIL_BYTES, REQUEST_BYTES = 4096, 2048, 1024

PROBLEM = Problem("bench", "class Model: ...\n")
INSTANCE = Instance("bench", PROBLEM.digest, "full", PROBLEM.source, "small", PROBLEM.source)
DEVICE = Device("cpu", "H100", "cpu->H100", Basis.PROJECTED, {"torch": "2"})
SPEC = SearchSpec(PROBLEM, INSTANCE, DEVICE, "branch", {"rounds": 2, "width": [2], "depth": [1]}, ("rules",), 1)

_WORDS = "tile warp row block shared memory split reduce vector load store register pipeline persistent fuse".split()


def idea(number: int) -> str:
    chance = random.Random(number)
    return " ".join(chance.choices(_WORDS, k=12)) + f" {number}"


def code(number: int) -> str:
    """A program of 4 KB that parses; no two are alike."""
    chance = random.Random(number).randbytes(1024).hex()
    lines = [f"def kernel_{number}(x_ptr, out_ptr, n):"]
    length = len(lines[0]) + 1
    for at in range(0, len(chance), 12):
        lines.append(f"    v{chance[at : at + 6]} = load(x_ptr + 0x{chance[at + 6 : at + 12]}, mask=offsets < n)")
        length += len(lines[-1]) + 1
        if length >= CODE_BYTES - 40:
            break
    return "\n".join(lines) + "\n"


def result(number: int) -> EvaluationResult:
    chance = random.Random(-number)
    time_ms = 0.1 + chance.random()
    detail = {"compiled": "x" * (DETAIL_BYTES - 100), "number": number}
    return EvaluationResult(
        *(Outcome.OK, Stage.TIME, "", 5, 5, 1e-7, Basis.PROJECTED, time_ms),
        baselines={"eager": 1.0, "compile": None},
        speedup={"eager": 1.0 / time_ms, "compile": None},
        provenance="custom",
        detail=detail,
    )


@dataclass
class Grove:
    """An open store with one search, and what is next in it."""

    store: SqliteStore
    search: int
    root: int
    step: int
    number: int
    next_node: int  # ids are given in order, and nothing else writes to the file

    def prepare(self) -> tuple[Idea, str, EvaluationResult]:
        """A node's content, made outside of what is timed."""
        self.number += 1
        return Idea(idea(self.number), "because", "tiling"), code(self.number), result(self.number)

    def record(self, parts: tuple[Idea, str, EvaluationResult], *, paid: bool = False) -> None:
        """One node with its implementation and evaluation; if *paid*, with a call in the ledger for each answer."""
        store, search = self.store, self.search
        text, program, judged = parts
        payload = {"parent": self.root, "base": None, "count": 1, "round": 1}
        store.record(search, self.step, [], [PlannedJob(JobKind.IDEATE, f"ideate:{self.number}", payload)])
        job = store.claim(search, "bench", [JobKind.IDEATE], 60.0)
        assert job is not None
        if paid:
            self._pay(job, Proposal((text,), usage=Usage(900, 60, 0.001), response_text=text.text))
        assert store.finish(job, IdeasResult((text,), "rules"))
        node = self.next_node
        wanted = PlannedJob(JobKind.IMPLEMENT, f"implement:{self.number}", {"node": node, "variant": 0}, node=node)
        store.record(search, self.step + 1, [], [wanted])
        job = store.claim(search, "bench", [JobKind.IMPLEMENT], 60.0)
        assert job is not None
        if paid:
            self._pay(job, Proposal(code=program, usage=Usage(2000, 1100, 0.01), response_text=program))
        assert store.finish(job, CodeResult(program, "rules"))
        job = store.claim(search, "bench", [JobKind.EVALUATE], 60.0)
        assert job is not None and store.finish(job, EvaluatedResult(judged, DEVICE))
        self.step += 2
        self.next_node += 1

    def record_together(self, parts: list[tuple[Idea, str, EvaluationResult]]) -> None:
        """Nodes whose ideas came as one answer, and whose programs one decision asked for: what ``branch`` does."""
        store, search = self.store, self.search
        payload = {"parent": self.root, "base": None, "count": len(parts), "round": 1}
        store.record(search, self.step, [], [PlannedJob(JobKind.IDEATE, f"ideate:{self.number}", payload)])
        job = store.claim(search, "bench", [JobKind.IDEATE], 60.0)
        assert job is not None and store.finish(job, IdeasResult(tuple(text for text, _, _ in parts), "rules"))
        nodes = range(self.next_node, self.next_node + len(parts))
        wanted = [
            PlannedJob(JobKind.IMPLEMENT, f"implement:{node}", {"node": node, "variant": 0}, node=node)
            for node in nodes
        ]
        store.record(search, self.step + 1, [], wanted)
        for _, program, judged in parts:
            job = store.claim(search, "bench", [JobKind.IMPLEMENT], 60.0)
            assert job is not None and store.finish(job, CodeResult(program, "rules"))
            job = store.claim(search, "bench", [JobKind.EVALUATE], 60.0)
            assert job is not None and store.finish(job, EvaluatedResult(judged, DEVICE))
        self.step += 2
        self.next_node += len(parts)

    def _pay(self, job: Job, proposal: Proposal) -> None:
        request = ProposalRequest(job.kind, job.key, PROBLEM, INSTANCE, "H100", "triton", 1)
        call = self.store.plan_completion(job, "rules", request, 0.02, 4000)
        self.store.mark_sent(call)
        self.store.settle_completion(call, True, replace(proposal, request_text="x" * REQUEST_BYTES))


def new(path: Path) -> Grove:
    store = open_store(path, create=True)
    search = store.create_search(SPEC, Idea("the reference", "", "reference"))
    grove = Grove(store, search, store.tree(search).root, 0, 0, 2)
    for _ in range(2):
        grove.record(grove.prepare(), paid=True)
    return grove


def opened(path: Path) -> Grove:
    store = open_store(path)
    with store.read() as connection:
        nodes, last = connection.exec_driver_sql("SELECT count(*), max(id) FROM node").one()
        (step,) = connection.exec_driver_sql("SELECT count(*) FROM decision").one()
    return Grove(store, 1, 1, step, nodes, last + 1)


class _Connection(sqlite3.Connection):
    """Keeps what is run, as (SQL, values), to be run again by plain sqlite3."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.taken: list[tuple[str, Any]] = []

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self.taken.append((sql, values))
        return super().execute(sql, values)

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:
        return super().cursor(_Cursor)

    def commit(self) -> None:
        self.taken.append(("COMMIT", ()))
        super().commit()


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self.connection.taken.append((sql, values))
        return super().execute(sql, values)


class Statements:
    """The statements of a store's writer, transactions included."""

    def __init__(self, store: SqliteStore) -> None:
        with (
            mock.patch("kernelgrove.storage.connect.sqlite3.connect", partial(sqlite3.connect, factory=_Connection)),
            store.write() as connection,  # opens the writer
        ):
            self._connection = connection.connection.driver_connection
        assert isinstance(self._connection, _Connection)

    def clear(self) -> list[tuple[str, Any]]:
        taken, self._connection.taken = self._connection.taken, []
        return taken


#: Tables of one node's rows, in an order that references allow; the job of each and the decisions come with it.
_OF_A_NODE = ("program", "node", "implementation", "evaluation", "job", "decision", "completion")


def fill(path: Path, nodes: int) -> None:
    """Bring the grove at *path* (closed) to *nodes* nodes, by copies of the rows of its second one (``new``) in large
    transactions: what is there afterwards is what the store would have written, in a small part of the time."""
    file = sqlite3.connect(path)
    file.row_factory = sqlite3.Row
    file.execute("PRAGMA synchronous = OFF")
    have = file.execute("SELECT count(*) FROM node").fetchone()[0]
    rows = {table: [dict(row) for row in _rows_of_second(file, table)] for table in _OF_A_NODE}
    assert [row["kind"] for row in rows["job"]] == ["ideate", "implement", "evaluate"]
    step = file.execute("SELECT max(step) FROM decision").fetchone()[0]
    top = {table: file.execute(f"SELECT max(id) FROM {table}").fetchone()[0] for table in _OF_A_NODE}
    for begin in range(have, nodes, 5000):
        with file:
            for k in range(begin, min(begin + 5000, nodes)):
                _copy(file, rows, top, step, k, k - have + 1)
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()


def _rows_of_second(file: sqlite3.Connection, table: str) -> list[Any]:
    count = {"job": 3, "decision": 2, "completion": 2}.get(table, 1)
    before = 2 if table == "node" else count  # the root and the first one
    return file.execute(f"SELECT * FROM {table} ORDER BY id LIMIT {count} OFFSET {before}").fetchall()


def _copy(file: sqlite3.Connection, rows: dict[str, Any], top: dict[str, int], step: int, k: int, turn: int) -> None:
    made, text = result(k), code(k)
    node, hash_ = top["node"] + turn, f"{k:064x}"
    parent = 1 if turn < 5 else top["node"] + turn // 4  # four children each: a tree as deep as real ones
    address = f"r.f{k}-0"
    job = top["job"] + 3 * (turn - 1)
    evaluation, implementation = top["evaluation"] + turn, top["implementation"] + turn
    speedup = made.speedup["eager"]
    changed: dict[str, list[dict[str, Any]]] = {
        "program": [{"id": top["program"] + turn, "hash": hash_, "code": text}],
        "node": [{"id": node, "parent_id": parent, "address": address, "idea": idea(k), "job_id": job + 1}],
        "implementation": [
            {"id": implementation, "node_id": node, "address": f"{address}/0", "program": hash_}
            | {"evaluation_id": evaluation, "time_ms": made.time_ms, "job_id": job + 2}
        ],
        "evaluation": [
            {"id": evaluation, "implementation_id": implementation, "program": hash_, "job_id": job + 3}
            | {"time_ms": made.time_ms, "speedup_eager": speedup, "speedup": f'{{"eager": {speedup}, "compile": null}}'}
        ],
        "job": [
            {"id": job + 1, "node_id": parent, "key": f"ideate:{k}"},
            {"id": job + 2, "node_id": node, "key": f"implement:{k}"},
            {"id": job + 3, "node_id": node, "implementation_id": implementation, "key": f"evaluate:{address}/0"},
        ],
        "decision": [
            {"id": top["decision"] + 2 * turn - 1, "step": step + 2 * turn - 1},
            {"id": top["decision"] + 2 * turn, "step": step + 2 * turn},
        ],
        "completion": [
            {"id": top["completion"] + 2 * turn - 1, "job_id": job + 1, "key": f"ideate:{k}", "response": idea(k)},
            {"id": top["completion"] + 2 * turn, "job_id": job + 2, "key": f"implement:{k}", "response": text},
        ],
    }
    for table in _OF_A_NODE:
        for row, change in zip(rows[table], changed[table], strict=True):
            values = {**row, **change}
            marks = ", ".join("?" * len(values))
            file.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))
