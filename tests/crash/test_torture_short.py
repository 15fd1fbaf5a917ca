"""A short run of ``torture.py``, and that it would see what it looks for."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from torture import Torture, Totals


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Torture]:
    db = tmp_path_factory.mktemp("torture") / "grove.db"
    torture = Torture(db, kills=4, searches=2, workers=2, seed=6, tree={"rounds": 4, "widths": 2, "depths": 2})
    torture.run()
    yield torture


def test_killed_at_random_nothing_is_lost_double_or_unrecorded(run: Torture) -> None:
    totals = run.totals
    assert totals.clean, "\n".join(totals.lines())
    assert (totals.lost, totals.double, totals.unrecorded, totals.other) == (0, 0, 0, 0)
    assert (totals.kills, totals.finished) == (4, 2)
    assert totals.at_work >= 2, "most kills must hit a search at work"
    assert all(
        totals.facts[kind] for kind in ("called", "done", "finished", "job", "judged", "sent", "settled", "step")
    )
    assert "lost 0, double 0, unrecorded 0" in totals.lines()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("lost", "DELETE FROM decision WHERE search_id = 2 AND step = 0"),
        ("lost", "UPDATE job SET state = 'queued' WHERE id = (SELECT max(job_id) FROM implementation)"),
        ("double", "UPDATE implementation SET job_id = (SELECT min(job_id) FROM implementation)"),
        ("unrecorded", "UPDATE completion SET key = 'x' WHERE id = 1"),
        ("unrecorded", "UPDATE completion SET cost_usd = 7.0 WHERE id = 1"),
        ("other", "UPDATE job SET state = 'queued' WHERE id = 1"),
    ],
)
def test_it_sees_a_fault(run: Torture, tmp_path: Path, kind: str, fault: str) -> None:
    copy = tmp_path / "copy.db"
    with sqlite3.connect(run.db) as whole, sqlite3.connect(copy) as file:
        whole.backup(file)
        file.execute("DROP TRIGGER completion_never_changes")
        file.execute(fault)
    file.close()
    whole.close()
    db, totals = run.db, run.totals
    run.db, run.totals = copy, Totals(searches=2, finished=2)
    try:
        run._check(1, [2, 3])
        assert getattr(run.totals, kind) > 0 and not run.totals.clean
    finally:
        run.db, run.totals = db, totals
