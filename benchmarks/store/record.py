"""The cost of recording one node: through the store, by plain sqlite3, and by Optuna's ask and tell.

Plain sqlite3 is measured twice on a copy of the same file, so with the same tables, indexes, triggers, full text and
pragmas: running the very statements that the store ran, commit for commit; and writing the four rows of a node
(program, idea, implementation, evaluation) in one transaction, which is the least that any program could do.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelgrove.storage.programs import program_hash

from . import grove as groves

_FOUR = ("program", "node", "implementation", "evaluation")


@dataclass(frozen=True)
class Cost:
    """Medians, ms a node, at *nodes* nodes."""

    nodes: int
    store: float
    same: float
    four: float
    commits: int
    slow: float  # the store's 95th percentile
    hash: float  # of the store's: working out which program the code is


def connect(path: Path) -> sqlite3.Connection:
    """As the store's writer is set up."""
    file = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        file.execute(f"PRAGMA {pragma}")
    return file


def copy(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as here, sqlite3.connect(target) as there:
        here.backup(there)
    here.close()
    there.close()


def measure(path: Path, folder: Path, samples: int) -> Cost:
    """Record *samples* nodes in the grove at *path* (closed) and in copies of it, in turns of ten."""
    same_path, four_path = folder / "same.db", folder / "four.db"
    for copied in (same_path, four_path):
        copy(path, copied)
    grove = groves.opened(path)
    nodes = grove.number
    same, four = connect(same_path), connect(four_path)
    statements = groves.Statements(grove.store)
    times: dict[str, list[float]] = {"store": [], "same": [], "four": [], "hash": []}
    commits = 0
    for turn in range(0, samples + 10, 10):
        batches = []
        for _ in range(10):
            parts = grove.prepare()
            statements.clear()
            started = time.perf_counter()
            grove.record(parts)
            times["store"].append(time.perf_counter() - started)
            batches.append(statements.clear())
            started = time.perf_counter()
            program_hash(parts[1])
            times["hash"].append(time.perf_counter() - started)
        for batch in batches:
            started = time.perf_counter()
            for sql, values in batch:
                same.execute(sql, values).fetchall()
            times["same"].append(time.perf_counter() - started)
            commits = sum(sql == "COMMIT" for sql, _ in batch)
        rows = _four(same, four, 10)
        for node in rows:
            started = time.perf_counter()
            four.execute("BEGIN IMMEDIATE")
            for sql, values in node:
                four.execute(sql, values)
            four.execute("COMMIT")
            times["four"].append(time.perf_counter() - started)
        if turn == 0:
            for taken in times.values():
                taken.clear()  # the first turn warms caches and prepares statements
    _alike(grove.store.location.path, same)
    grove.store.close()
    same.close()
    four.close()
    for made in (same_path, four_path):
        for file in folder.glob(f"{made.name}*"):
            file.unlink()
    median = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
    slow = 1e3 * sorted(times["store"])[int(0.95 * len(times["store"]))]
    return Cost(nodes, median["store"], median["same"], median["four"], commits, slow, median["hash"])


def _four(source: sqlite3.Connection, target: sqlite3.Connection, count: int) -> list[list[tuple[str, list[Any]]]]:
    """INSERTs of the last *count* nodes of *source* for *target*, in its own ids; jobs are left out."""
    shift = {t: target.execute(f"SELECT coalesce(max(id), 0) FROM {t}").fetchone()[0] for t in _FOUR}
    nodes: list[list[tuple[str, list[Any]]]] = []
    for index in range(count):
        node = []
        ids = {table: shift[table] + index + 1 for table in _FOUR}
        for table in _FOUR:
            cursor = source.execute(f"SELECT * FROM {table} ORDER BY id DESC LIMIT 1 OFFSET {count - 1 - index}")
            row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
            row |= {"id": ids[table]} | ({"job_id": None} if "job_id" in row else {})
            row |= {"node_id": ids["node"]} if table == "implementation" else {}
            # The evaluation comes after the implementation that names it: one of the two must wait.
            row |= {"evaluation_id": None} if table == "implementation" else {}
            row |= {"implementation_id": ids["implementation"]} if table == "evaluation" else {}
            marks = ", ".join("?" * len(row))
            node.append((f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values())))
        named = [ids["evaluation"], ids["implementation"]]
        node.append(("UPDATE implementation SET evaluation_id = ? WHERE id = ?", named))
        nodes.append(node)
    return nodes


def _alike(path: Path, same: sqlite3.Connection) -> None:
    """Plain sqlite3 must have written what the store wrote, or the ratio means nothing."""
    store = sqlite3.connect(path)
    for table in (*_FOUR, "job", "decision"):
        sql = f"SELECT count(*), max(id) FROM {table}"
        assert store.execute(sql).fetchone() == same.execute(sql).fetchone(), table
    store.close()


# -------------------------------------------------------------------------------------------------- Optuna


def optuna(folder: Path, trials: int, samples: int) -> tuple[str, float, float] | None:
    """Optuna's version and the medians, in ms, of a trial with a node's payload as user attributes, and of a bare
    ask and tell, at *trials* trials in a SQLite file. None where it is not installed."""
    try:
        import optuna as package
    except ImportError:
        return None
    package.logging.set_verbosity(package.logging.WARNING)
    folder.mkdir()
    storage = package.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    study = package.create_study(storage=storage, sampler=package.samplers.RandomSampler(seed=1))
    for number in range(trials):
        study.add_trial(package.trial.create_trial(value=1.0, user_attrs=_attributes(number)))
    full, bare = [], []
    for number in range(trials, trials + samples):
        attributes = _attributes(number)
        started = time.perf_counter()
        trial = study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, 1.0)
        full.append(time.perf_counter() - started)
        started = time.perf_counter()
        study.tell(study.ask(), 1.0)
        bare.append(time.perf_counter() - started)
    return package.__version__, 1e3 * statistics.median(full), 1e3 * statistics.median(bare)


def _attributes(number: int) -> dict[str, str]:
    judged = groves.result(number)
    return {"idea": groves.idea(number), "code": groves.code(number), "evaluation": json.dumps(judged.detail)}
