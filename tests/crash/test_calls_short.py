"""A short run of ``torture_calls.py``, and that it would see what it looks for."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parent))

from torture_calls import Torture


def test_killed_with_calls_in_flight_every_call_is_in_the_ledger_and_charged(tmp_path: Path) -> None:
    torture = Torture(tmp_path / "grove.db", kills=3, seed=3, window_s=0.5)
    totals = torture.run()
    assert totals.clean, "\n".join(totals.lines())
    assert totals.kills == 3 and max(totals.in_flight) >= 2 and totals.calls >= 8
    assert totals.ended == "dollars" and totals.charged <= totals.cap

    # A row that is gone, and a charge that is, are seen.
    with sqlite3.connect(tmp_path / "grove.db") as file:
        file.execute("DROP TRIGGER completion_never_changes")
        file.execute("DROP TRIGGER IF EXISTS completion_never_deleted")
        file.execute("UPDATE completion SET state = 'planned' WHERE id = (SELECT min(id) FROM completion)")
    file.close()

    there = torture._count("state IN ('sent', 'ok', 'error', 'unknown')")
    torture._check(SimpleNamespace(received=[None] * (there + 1), billed=[]), 0.0)  # type: ignore[arg-type]
    assert totals.unrecorded == 1 and not totals.clean
