"""The cost of recording one node: through the store, by plain sqlite3, and by Optuna's ask and tell.

Plain sqlite3 is measured on copies of the same file, so with the same tables, indexes, triggers, full text and pragmas:

- the very statements that the store ran, transaction for transaction: what is left is what Python adds;
- the node's rows (idea; program and implementation; evaluation) as three transactions, as they come, with no decision,
  no job and no lease;
- all four rows in one transaction, which is the least that any program could do.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kernelgrove.storage.programs import program_hash

from . import grove as groves

_FOUR = ("program", "node", "implementation", "evaluation")

#: How many ideas come as one answer in the second way of recording.
TOGETHER = 4

#: How many nodes are recorded one way before the next way has its turn.
TURN = 12


@dataclass(frozen=True)
class Cost:
    """Medians, ms a node, at *nodes* nodes. The first two are the store's: alone, and ``TOGETHER`` at a time."""

    nodes: int
    alone: float
    together: float
    slow: float  # the 95th percentile of ``alone``
    hash: float  # of the store's: working out which program the code is
    same_alone: float
    same_together: float
    three: float
    four: float
    durable: tuple[float, float]  # transactions a node that were flushed: alone, together
    bare: float  # an empty transaction, flushed


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


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(path: Path, folder: Path, samples: int) -> Cost:
    """Record *samples* nodes each way in the grove at *path* (closed) and in copies of it, in turns."""
    plain = {name: folder / f"{name}.db" for name in ("same", "three", "four")}
    for copied in plain.values():
        copy(path, copied)
    grove = groves.opened(path)
    nodes = grove.number
    files = {name: connect(copied) for name, copied in plain.items()}
    statements = groves.Statements(grove.store)
    times: dict[str, list[float]] = {}
    durable = {"alone": 0.0, "together": 0.0}

    def add(name: str, seconds: float, share: int = 1) -> None:
        times.setdefault(name, []).append(seconds / share)

    def repeat(name: str, share: int) -> None:
        batch = statements.clear()
        add(f"same_{name}", _timed(lambda: _run(files["same"], batch)), share)
        flushed = [sql for sql, _ in batch if sql == "COMMIT" or sql.startswith("PRAGMA synchronous")]
        durable[name] = sum(a.endswith("FULL") and b == "COMMIT" for a, b in pairwise(flushed)) / share

    for turn in range(0, samples + TURN, TURN):
        statements.clear()
        for _ in range(TURN):
            parts = grove.prepare()
            add("alone", _timed(lambda parts=parts: grove.record(parts)))  # type: ignore[misc]
            add("hash", _timed(lambda parts=parts: program_hash(parts[1])))  # type: ignore[misc]
            repeat("alone", 1)
        for _ in range(TURN // TOGETHER):
            several = [grove.prepare() for _ in range(TOGETHER)]
            add("together", _timed(lambda several=several: grove.record_together(several)), TOGETHER)  # type: ignore[misc]
            repeat("together", TOGETHER)
        for name in ("three", "four"):
            for node in _four(files["same"], files[name], TURN):
                add(name, _timed(lambda node=node, name=name: _facts(files[name], node, name == "three")))  # type: ignore[misc]
        for number in range(TURN):
            add("bare", _timed(lambda number=number: _bare(files["four"], number)))  # type: ignore[misc]
        if turn == 0:
            times.clear()  # the first turn warms caches and prepares statements
    _alike(grove.store.location.path, files["same"])
    grove.store.close()
    for name, file in files.items():
        file.close()
        for left in folder.glob(f"{name}.db*"):
            left.unlink()
    median = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
    slow = 1e3 * sorted(times["alone"])[int(0.95 * len(times["alone"]))]
    return Cost(nodes, slow=slow, durable=(durable["alone"], durable["together"]), **median)


def _run(file: sqlite3.Connection, batch: list[tuple[str, Any]]) -> None:
    for sql, values in batch:
        file.execute(sql, values).fetchall()


def _facts(file: sqlite3.Connection, node: list[tuple[str, list[Any]]], each: bool) -> None:
    """The rows of a node: at once, or *each* fact in a transaction of its own."""
    program, idea, *rest = node
    implementation, *judged = rest
    for facts in [[idea], [program, implementation], judged] if each else [node]:
        file.execute("BEGIN IMMEDIATE")
        for sql, values in facts:
            file.execute(sql, values)
        file.execute("COMMIT")


def _bare(file: sqlite3.Connection, number: int) -> None:
    file.execute("BEGIN IMMEDIATE")
    file.execute("UPDATE search SET elapsed_s = ? WHERE id = 1", (float(number),))
    file.execute("COMMIT")


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
            if table == "implementation":
                row |= dict.fromkeys(("evaluation_id", "outcome", "basis", "time_ms"))
            row |= {"implementation_id": ids["implementation"]} if table == "evaluation" else {}
            marks = ", ".join("?" * len(row))
            node.append((f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values())))
        judged = [row["outcome"], row["basis"], row["time_ms"], ids["evaluation"], ids["implementation"]]
        update = "UPDATE implementation SET outcome = ?, basis = ?, time_ms = ?, evaluation_id = ? WHERE id = ?"
        node.append((update, judged))
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


@dataclass(frozen=True)
class Optuna:
    """Medians, ms: a trial with a node's payload as user attributes, a bare one, and the store's nodes between."""

    version: str
    full: float
    bare: float
    alone: float
    together: float


def optuna(path: Path, folder: Path, trials: int, samples: int) -> Optuna | None:
    """Ask and tell at *trials* trials in a SQLite file, in turns with nodes of the grove at *path* (closed): what the
    disk does meanwhile happens to both. None where Optuna is not installed."""
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

    def ask_and_tell(attributes: dict[str, str]) -> None:
        trial = study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, 1.0)

    grove = groves.opened(path)
    times: dict[str, list[float]] = {"full": [], "bare": [], "alone": [], "together": []}
    for number in range(trials, trials + samples + 5):
        attributes, parts = _attributes(number), grove.prepare()
        several = [grove.prepare() for _ in range(TOGETHER)]
        times["full"].append(_timed(lambda attributes=attributes: ask_and_tell(attributes)))  # type: ignore[misc]
        times["alone"].append(_timed(lambda parts=parts: grove.record(parts)))  # type: ignore[misc]
        times["bare"].append(_timed(lambda: ask_and_tell({})))
        took = _timed(lambda several=several: grove.record_together(several))  # type: ignore[misc]
        times["together"].append(took / TOGETHER)
    grove.store.close()
    median = {name: 1e3 * statistics.median(taken[5:]) for name, taken in times.items()}
    return Optuna(package.__version__, **median)


def _attributes(number: int) -> dict[str, str]:
    judged = groves.result(number)
    return {"idea": groves.idea(number), "code": groves.code(number), "evaluation": json.dumps(judged.detail)}
