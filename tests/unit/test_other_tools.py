"""A grove in the hands of other programs: the plain ``sqlite3`` shell and ``datasette``, over a search's own file."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from groves import finished

from kernelgrove.storage import documents, open_store

#: The views' columns. More may come, at the end; none goes or is renamed: people's own queries name them.
VIEWS = {
    "leaderboard": "search_id basis rank problem implementation_id address node_id idea model evaluation_id device_key"
    " target time_ms eager_ms compile_ms speedup_eager speedup_compile provenance time_low_ms time_high_ms timing",
    "node_tree": "search_id node_id parent_id base_id depth line address round indented idea category state"
    " pruned_because model implementations basis best_ms",
    "cost": "search_id problem model kind calls answered failed cut_off input_tokens output_tokens tokens cost_usd"
    " unpriced",
}


@pytest.fixture
def grove(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


@pytest.fixture
def expected(grove: Path) -> dict[str, Any]:
    with open_store(grove) as store:
        view = store.tree(1)
        return {
            "best": documents.leaders(store, 1, 99),
            "nodes": [(n.id, n.parent, n.idea.text) for n in view.nodes.values()],
            "calls": store.spent(1).calls,
        }


def shell(path: Path, sql: str) -> list[dict[str, str]]:
    program = shutil.which("sqlite3")
    if program is None:
        pytest.skip("the sqlite3 shell is not installed (apt-get install sqlite3)")
    done = subprocess.run([program, "-readonly", "-csv", "-header", str(path), sql], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def datasette(path: Path, table: str, **query: Any) -> list[dict[str, Any]]:
    """What datasette answers; without a server of its own."""
    pytest.importorskip("datasette", reason="datasette is not installed (pip install 'kernelgrove[bench]')")
    address = f"/{path.stem}/{table}.json?{urlencode({'_shape': 'array', **query})}"
    command = [sys.executable, "-m", "datasette", "--get", address, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_the_views_columns_stay(view: str, grove: Path) -> None:
    with open_store(grove) as store, store.read() as connection:
        columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({view})")]
    assert columns[: len(VIEWS[view].split())] == VIEWS[view].split()


def test_the_sqlite3_shell_reads_the_views(grove: Path, expected: dict[str, Any]) -> None:
    board = shell(grove, "SELECT * FROM leaderboard WHERE search_id = 1 ORDER BY rank")
    assert [(row["implementation_id"], float(row["time_ms"]), row["basis"]) for row in board] == [
        (best["implementation"][1:], pytest.approx(best["time_ms"]), best["basis"]) for best in expected["best"]
    ]
    tree = shell(grove, "SELECT * FROM node_tree ORDER BY node_id")
    assert [(int(r["node_id"]), int(r["parent_id"] or 0) or None, r["idea"]) for r in tree] == expected["nodes"]
    assert sum(int(row["calls"]) for row in shell(grove, "SELECT * FROM cost")) == expected["calls"]
    found = shell(grove, "SELECT rowid FROM idea_fts WHERE idea_fts MATCH 'ideate'")
    assert len(found) == len(expected["nodes"]) - 1


def test_datasette_serves_the_views(grove: Path, expected: dict[str, Any]) -> None:
    board = datasette(grove, "leaderboard", _sort="rank", _size=3)
    assert [(row["rank"], f"i{row['implementation_id']}", row["time_ms"]) for row in board] == [
        (best["rank"], best["implementation"], best["time_ms"]) for best in expected["best"][:3]
    ]
    assert sum(row["calls"] for row in datasette(grove, "cost")) == expected["calls"]
    tree = datasette(grove, "node_tree", _sort="node_id", address__startswith="r.")
    assert [(row["node_id"], row["parent_id"], row["idea"]) for row in tree] == expected["nodes"][1:]
