"""What questions cost at a given size, and what the next controller costs until its first decision."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernelgrove.model import JobKind
from kernelgrove.ports import PlannedJob
from kernelgrove.storage import documents, open_store
from kernelgrove.storage.lineage import lineage_document

_RESUME = """
import gc
gc.set_threshold(100_000, 50, 50)  # as the command line does
import json, random, resource, sys, time
began = time.perf_counter()
from kernelgrove import strategies
from kernelgrove.storage import open_store
imported = time.perf_counter()
with open_store(sys.argv[1]) as store:
    store.recover(1, lambda owner: False)
    recovered = time.perf_counter()
    view = store.tree(1)
    loaded = time.perf_counter()
    strategies.make(sys.argv[2], {}).propose(view, 4, random.Random(1))
    decided = time.perf_counter()
print(json.dumps({
    "import": imported - began, "open, take back leases (imports the tables)": recovered - imported,
    "the tree": loaded - recovered, "the strategy": decided - loaded, "total": decided - began,
    "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "processor": time.process_time(),
}))
"""


def resume(path: Path, strategy: str) -> dict[str, float]:
    """Seconds of a fresh process until its strategy has answered, of them on a processor, and the most memory it held,
    MB: of five, the one in the middle, and under ``fastest`` the quickest one's."""
    found = sorted((_resume(path, strategy) for _ in range(5)), key=lambda one: one["total"])
    return {**found[2], "fastest": found[0]["total"], "processor": min(one["processor"] for one in found)}


def _resume(path: Path, strategy: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _RESUME, str(path), strategy], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def command(*arguments: str) -> tuple[float, float]:
    """Seconds of one whole process of the command line: of five, the middle one and the quickest."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kernelgrove", *arguments], check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), min(taken)


def questions(path: Path) -> dict[str, tuple[float, float]]:
    """Seconds of each question, asked of an open store: the median and the least."""
    with open_store(path) as store:

        def sql(text: str, *values: Any) -> Callable[[], Any]:
            def ask() -> Any:
                with store.read() as connection:
                    return connection.exec_driver_sql(text, values).all()

            return ask

        def step() -> None:
            view = store.tree(1)
            store.record(1, view.step, [], [PlannedJob(JobKind.RATE, f"rate:{view.step}", {"nodes": []})])
            store.tree(1)

        with store.read() as connection:
            (deepest,) = connection.exec_driver_sql("SELECT max(id) FROM implementation").one()
            (middle,) = connection.exec_driver_sql("SELECT max(id) / 2 FROM node").one()
        ideas = "SELECT n.id FROM idea_fts f JOIN node n ON n.id = f.rowid WHERE idea_fts MATCH ? LIMIT 20"
        programs = "SELECT rowid FROM code_fts WHERE code_fts MATCH ? LIMIT 20"
        best = "SELECT id, time_ms FROM evaluation WHERE search_id = 1 AND outcome = 'ok' ORDER BY time_ms LIMIT 10"
        asked: dict[str, Callable[[], Any]] = {
            "best 10, with code (documents.leaders)": lambda: documents.leaders(store, 1, 10),
            "the ten fastest evaluations, in plain SQL": sql(best),
            "lineage (lineage i…)": lambda: lineage_document(store, f"i{deepest}"),
            "one implementation, with all that is kept of it (show i…)": lambda: documents.show_document(
                store, f"i{deepest}"
            ),
            "full text, a rare idea": sql(ideas, f'"{middle}"'),
            "full text, two common words, the first 20": sql(ideas, "persistent AND warp"),
            "full text, an identifier in code": sql(programs, f"kernel_{middle}"),
            "ls, the document": lambda: documents.list_document(store),
            "tree --depth 3, the document": lambda: documents.tree_document(store, 1, depth=3),
            "a decision recorded, and the next snapshot": step,
            "a controller's next snapshot, nothing changed": lambda: store.tree(1),
        }
        found: dict[str, tuple[float, float]] = {}
        for name, ask in asked.items():
            ask()
            taken = []
            while len(taken) < 3 or (len(taken) < 20 and sum(taken) < 1.0):
                started = time.perf_counter()
                ask()
                taken.append(time.perf_counter() - started)
            found[name] = statistics.median(taken), min(taken)
    return found
