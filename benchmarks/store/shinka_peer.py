"""ShinkaEvolve's database with a node's payload: ``add`` and ``sample``, at each size. Needs only that package.

    python -m venv shinka && shinka/bin/pip install shinka-evolve
    shinka/bin/python benchmarks/store/shinka_peer.py FOLDER SAMPLES 1000 10000 100000

It pins versions of its own, so it lives in an environment of its own; ``python -m benchmarks.store --shinka
shinka/bin/python`` runs this there. Sizes are filled by copies of rows that ``add`` has made. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sqlite3
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shinka.database import DatabaseConfig, Program, ProgramDatabase

CODE_BYTES, DETAIL_BYTES = 4096, 2048


def program(number: int, parent: str | None) -> Any:
    chance = random.Random(number)
    lines = [f"def kernel_{number}(x, n):"]
    while sum(map(len, lines)) < CODE_BYTES - 300:
        lines.append(f"    v{chance.randrange(16**6):06x} = load(x + {chance.randrange(16**6)}, mask=offsets < n)")
    time_ms = 0.1 + chance.random()
    return Program(
        id=f"p{number}",
        code="\n".join(lines) + "\n",
        parent_id=parent,
        generation=number,
        combined_score=1.0 / time_ms,
        correct=True,
        public_metrics={"time_ms": time_ms},
        private_metrics={"compiled": "x" * (DETAIL_BYTES - 100)},
        text_feedback="Let each program take several rows instead of one " + str(number),
    )


def fill(path: Path, nodes: int) -> None:
    """Bring the file to *nodes* programs with copies of its last row, in large transactions."""
    file = sqlite3.connect(path)
    file.row_factory = sqlite3.Row
    file.execute("PRAGMA synchronous = OFF")
    row = dict(file.execute("SELECT * FROM programs ORDER BY generation DESC LIMIT 1").fetchone())
    have = file.execute("SELECT count(*) FROM programs").fetchone()[0]
    marks = ", ".join("?" * len(row))
    with file:
        for number in range(have, nodes):
            made = program(number, f"p{number // 4}")
            row |= {"id": made.id, "code": made.code, "parent_id": made.parent_id, "generation": number}
            row |= {"combined_score": made.combined_score, "text_feedback": made.text_feedback, "children_count": 4}
            row |= {"island_idx": number % 2, "timestamp": time.time()}
            file.execute(f"INSERT INTO programs ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    file.close()


def main(folder: Path, samples: int, sizes: list[int]) -> dict[str, Any]:
    path = folder / "shinka.db"
    config = DatabaseConfig(db_path=str(path))
    found: dict[str, Any] = {"version": version("shinka-evolve"), "sizes": {}}
    database = ProgramDatabase(config, embedding_model="")
    for number in range(8):
        database.add(program(number, f"p{number // 4}" if number else None))
    found["synchronous"] = database.conn.execute("PRAGMA synchronous").fetchone()[0]
    database.close()
    for nodes in sizes:
        fill(path, nodes)
        database = ProgramDatabase(config, embedding_model="")
        added, sampled = [], []
        for number in range(nodes, nodes + samples):
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                parent, *_ = database.sample()
            between = time.perf_counter()
            new = program(number, parent.id)
            again = time.perf_counter()
            database.add(new)
            ended = time.perf_counter()
            sampled.append(between - started)
            added.append(ended - again)
            if sum(sampled) + sum(added) > 30.0:
                break
        database.close()
        found["sizes"][nodes] = [1e3 * statistics.median(added), 1e3 * statistics.median(sampled), len(added)]
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), [int(size) for size in sys.argv[3:]])))
