"""``kill -9`` at many random moments, over many searches at once on one file, and what is missing afterwards.

    python tests/crash/torture.py --kills 1000 --searches 50 --workers 4 --seed 1

*workers* processes run searches at the same time (a fake proposer and evaluator, real processes, real SQLite). Each
search is killed its share of times at random moments and started again, then left to end. Printed at the end:

    lost        what the store had acknowledged to a process before it was killed, and does not have
    double      a job that ended twice, a program judged twice in one search, two results of one job
    unrecorded  a proposer call that was made and has no row in the ledger, or whose row was never settled

Exit code 1 when any is not 0, or when a search did not end. The moments are drawn from the seed; what a process was
doing at that moment depends on the machine too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))
sys.path.append(str(Path(__file__).parent))

import torture_child
from fake_search import spec

from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.storage import open_store

# A fresh process a run, forked from one that has imported all that is slow to import.
PROCESSES = multiprocessing.get_context("forkserver")
_SLOW = "engine.controller engine.context strategies.branch storage.store storage.jobs storage.results storage.ledger"
PROCESSES.set_forkserver_preload([*(f"kernelgrove.{name}" for name in _SLOW.split()), "torture_child"])

Fact = tuple[str, ...]


class Child:
    """A process that runs *search*, from the moment it is about to start. What it tells is read as it comes."""

    def __init__(self, db: Path, search: int, tree: dict[str, int]) -> None:
        started = PROCESSES.Event()
        self._reads, writes = os.pipe()
        self.process = PROCESSES.Process(target=_child, args=(str(db), search, started, DupFd(writes), tree))
        with _starting:  # DupFd belongs to the process that is being started
            self.process.start()
        os.close(writes)
        self._facts: list[Fact] = []
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.started = started.wait(60)

    def _read(self) -> None:
        with open(self._reads) as pipe:  # noqa: PTH123 (a descriptor)
            for line in pipe:
                with self._told:
                    self._facts.append(tuple(line.split()))
                    self._told.notify()

    def wait(self, facts: int) -> None:
        """Until it has told so many, or is over."""
        with self._told:
            while len(self._facts) < facts and self.process.is_alive():
                self._told.wait(0.05)

    def end(self) -> list[Fact]:
        """Wait until it is over and return what it told."""
        self._reader.join()
        self.process.join(60)
        return self._facts


_starting = threading.Lock()


def _child(db: str, search: int, started: Any, told: Any, tree: dict[str, int]) -> None:
    torture_child.run(db, search, started, told.detach(), tree)


@dataclass
class Totals:
    """What came of it. ``facts`` counts what processes were told; ``wrong`` says each fault in words."""

    kills: int = 0
    at_work: int = 0
    searches: int = 0
    finished: int = 0
    same_tree: int = 0
    given_up: int = 0
    asked_again: int = 0
    charged_unknown: int = 0
    seconds: float = 0.0
    facts: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    double: int = 0
    unrecorded: int = 0
    other: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, texts: Iterable[str]) -> None:
        texts = list(texts)
        setattr(self, kind, getattr(self, kind) + len(texts))
        self.wrong += [f"{kind}: {text}" for text in texts]

    @property
    def clean(self) -> bool:
        return not self.wrong and self.finished == self.searches

    def lines(self) -> list[str]:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self.facts.items()))
        return [
            f"{self.kills} kills in {self.seconds:.0f} s, {self.at_work} of them while a search was at work",
            f"{self.finished} of {self.searches} searches ended; {self.same_tree} with the tree of one never killed",
            f"{self.given_up} jobs given up, each after its third lost attempt and with that reason",
            f"{self.charged_unknown} calls cut off and charged at their reservation,"
            f" {self.asked_again} jobs whose call was made and paid again, each call in the ledger",
            f"acknowledged and looked for: {told}",
            f"lost {self.lost}, double {self.double}, unrecorded {self.unrecorded}",
            *(["other faults: " + str(self.other)] if self.other else []),
            *self.wrong[:20],
        ]


class Torture:
    """One run; *tree* are the options of ``branch`` for each search."""

    def __init__(
        self,
        db: Path,
        kills: int,
        searches: int,
        workers: int,
        seed: int,
        tree: dict[str, int] = torture_child.TREE,
    ) -> None:
        self.tree = tree
        self.db, self.kills, self.workers, self.seed = db, kills, workers, seed
        self.totals = Totals(searches=searches)
        self._lock = threading.Lock()
        self._whole, self._pause = 0, 0.0  # facts that a calm search tells, and seconds between two
        self._told: list[Fact] = []
        self._calls: Counter[tuple[int, str]] = Counter()
        self._errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def run(self) -> Totals:
        begun = time.monotonic()
        with open_store(self.db, create=True) as store:
            calm = store.create_search(spec(tolerance=0.5), ROOT_IDEA)
            takes = time.monotonic()
            told = Child(self.db, calm, self.tree).end()
            self._whole, self._pause = len(told), (time.monotonic() - takes) / len(told)
            self._keep(calm, told, "calm")
            # Another tolerance each: what one search judged must not be reused by the next.
            made = self.totals.searches
            numbers = [store.create_search(spec(tolerance=1.0 + n), ROOT_IDEA) for n in range(made)]
        waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        for index, number in enumerate(numbers):
            waiting.put((number, (self.kills + index) // len(numbers)))  # shares that add up to all kills
        threads = [threading.Thread(target=self._work, args=(waiting,)) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not self._errors.empty():
            raise self._errors.get()
        self._check(calm, numbers)
        self.totals.seconds = time.monotonic() - begun
        return self.totals

    def _work(self, waiting: queue.SimpleQueue[tuple[int, int]]) -> None:
        try:
            while True:
                search, kills = waiting.get_nowait()
                self._torment(search, kills)
        except queue.Empty:
            return
        except BaseException as error:
            self._errors.put(error)

    def _torment(self, search: int, kills: int) -> None:
        """Kill *search* *kills* times, each time at a random moment of the part of it that one run may do, then let
        it end. The more kills, the less a run may do: most searches must outlive all of them. How far a run is, is told
        by its facts, not by a clock: a machine may be slow at one time and fast at another."""
        moments = random.Random(f"{self.seed}/{search}")
        for left in range(kills, 0, -1):
            child = Child(self.db, search, self.tree)
            child.wait(int(moments.uniform(0.0, min(2.5 / kills, 0.8)) * self._whole))
            time.sleep(moments.uniform(0.0, 2 * self._pause))  # into what comes between two facts
            at_work = child.process.is_alive()
            child.process.kill()
            facts = child.end()
            with self._lock:
                self.totals.kills += 1
                self.totals.at_work += at_work and ("finished", str(search)) not in facts
            self._keep(search, facts, f"kill {kills - left + 1}")
        child = Child(self.db, search, self.tree)
        facts = child.end()
        self._keep(search, facts, "the end")
        with self._lock:
            self.totals.finished += child.process.exitcode == 0 and ("finished", str(search)) in facts

    def _keep(self, search: int, facts: list[Fact], when: str) -> None:
        """Look at once for what was told, and remember it: it must be there at the end too."""
        with _reading(self.db) as file:
            lost = list(_missing(file, facts))
        with self._lock:
            self._told += facts
            self.totals.facts.update(fact[0] for fact in facts)
            self._calls.update((search, fact[1]) for fact in facts if fact[0] == "called")
            self.totals.add("lost", (f"s{search}, {when}: {text}" for text in lost))

    def _check(self, calm: int, numbers: list[int]) -> None:
        totals = self.totals
        with open_store(self.db) as store, _reading(self.db) as file:
            totals.add("lost", _missing(file, self._told))
            ended = Counter(fact for fact in self._told if fact[0] in ("done", "judged"))
            totals.add("double", (f"job t{job} ended {n} times" for (_, job), n in ended.items() if n > 1))
            for what, sql in _DOUBLE.items():
                totals.add("double", (f"{what}: {row}" for row in file.execute(sql)))
            rows = {(s, k): n for s, k, n in file.execute(_CALLS)}
            totals.add(
                "unrecorded",
                (
                    f"s{s} {k}: {n} calls, {rows.get((s, k), 0)} rows"
                    for (s, k), n in self._calls.items()
                    if n > rows.get((s, k), 0)
                ),
            )
            for what, sql in _UNSETTLED.items():
                totals.add("unrecorded", (f"{what}: {row}" for row in file.execute(sql)))
            for what, sql in _OTHER.items():
                totals.add("other", (f"{what}: {row}" for row in file.execute(sql) if row != ("ok",)))
            totals.given_up = _one(file, "SELECT count(*) FROM job WHERE state = 'dead'")
            totals.charged_unknown = _one(file, "SELECT count(*) FROM completion WHERE state = 'unknown'")
            totals.asked_again = _one(file, _AGAIN)
            whole = _tree(store, calm)
            for number in numbers:
                same = _tree(store, number) == whole
                dead = _one(file, f"SELECT count(*) FROM job WHERE search_id = {number} AND state = 'dead'")
                totals.same_tree += same
                if not same and not dead:
                    totals.add("other", [f"s{number} lost no job and has another tree than one never killed"])


def _reading(db: Path) -> Any:
    from contextlib import closing

    return closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30))


def _one(file: sqlite3.Connection, sql: str) -> int:
    return int(file.execute(sql).fetchone()[0])


#: fact -> a query that finds it by its last word.
_THERE = {
    "step": "SELECT 1 FROM decision WHERE search_id = ? AND step = ?",
    "job": "SELECT 1 FROM job WHERE id = ?",
    "done": "SELECT 1 FROM job WHERE id = ? AND state IN ('done', 'failed')",
    "judged": "SELECT 1 FROM job j JOIN evaluation e ON e.job_id = j.id WHERE j.id = ? AND j.state = 'done'",
    "sent": "SELECT 1 FROM completion WHERE id = ? AND state IN ('sent', 'ok', 'error', 'unknown')",
    "settled": "SELECT 1 FROM completion WHERE id = ? AND state IN ('ok', 'error', 'unknown')",
    "finished": "SELECT 1 FROM search WHERE id = ? AND status = 'finished'",
}


def _missing(file: sqlite3.Connection, facts: Iterable[Fact]) -> Iterable[str]:
    for kind, *words in facts:
        if kind in _THERE and file.execute(_THERE[kind], words).fetchone() is None:
            yield f"{kind} {' '.join(words)}"


_DOUBLE = {
    "a program judged twice in one search": "SELECT search_id, program, count(*) FROM evaluation"
    " GROUP BY search_id, program HAVING count(*) > 1",
    "two evaluations of one job": "SELECT job_id, count(*) FROM evaluation GROUP BY job_id HAVING count(*) > 1",
    "two implementations of one job": "SELECT job_id, count(*) FROM implementation GROUP BY job_id HAVING count(*) > 1",
    "one place in a tree twice": "SELECT search_id, address, count(*) FROM node GROUP BY 1, 2 HAVING count(*) > 1"
    " UNION ALL SELECT search_id, address, count(*) FROM implementation GROUP BY 1, 2 HAVING count(*) > 1",
}
_CALLS = (
    "SELECT search_id, key, count(*) FROM completion WHERE state IN ('ok', 'error', 'unknown') GROUP BY search_id, key"
)
_UNSETTLED = {
    "a call that was never settled": "SELECT id, state FROM completion WHERE state IN ('planned', 'sent')",
    "a call with the wrong charge": "SELECT id, state, cost_usd FROM completion WHERE cost_usd IS NOT"
    f" CASE state WHEN 'ok' THEN {torture_child.COST} WHEN 'unknown' THEN reserve_usd ELSE 0.0 END",
    "a reservation that was not made": f"SELECT id FROM completion WHERE reserve_usd <> {torture_child.RESERVE}",
}
_AGAIN = (
    "SELECT count(*) FROM (SELECT job_id FROM completion WHERE state IN ('ok', 'unknown')"
    " GROUP BY job_id HAVING count(*) > 1)"
)
_OTHER = {
    "the file": "PRAGMA integrity_check",
    "a reference to nothing": "PRAGMA foreign_key_check",
    "a job left over": "SELECT id, state FROM job WHERE state IN ('queued', 'leased')",
    "a job given up too early": "SELECT id, attempt, reason FROM job WHERE state = 'dead'"
    " AND (attempt < max_attempts OR coalesce(reason, '') = '')",
    "a job judged with no evaluation": "SELECT id FROM job WHERE kind = 'evaluate' AND state = 'done'"
    " AND id NOT IN (SELECT job_id FROM evaluation WHERE job_id IS NOT NULL)",
}


def _tree(store: Any, search: int) -> Any:
    view = store.tree(search)
    programs = {i.address: (i.program, i.evaluation and i.evaluation.outcome) for i in view.implementations.values()}
    return {n.address: n.idea.text for n in view.nodes.values()}, programs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--workers", type=int, default=4, help="processes that run searches at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", type=Path, help="keep the grove there; it must not exist")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = options.db or Path(folder) / "grove.db"
        if db.exists():
            parser.error(f"{db} exists")
        totals = Torture(db, options.kills, options.searches, options.workers, options.seed).run()
    print(f"seed {options.seed}, {options.workers} workers")
    print("\n".join(totals.lines()))
    return 0 if totals.clean else 1


if __name__ == "__main__":
    sys.exit(main())
