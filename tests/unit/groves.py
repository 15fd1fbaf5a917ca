"""Small groves for tests that read or look after one: made once by the real loop over fakes, then copied."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fake_search import FakeProposer, controller

from kernelgrove import strategies
from kernelgrove.storage import open_store


@cache
def _finished() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.db"
        with open_store(path, create=True) as store:
            options = {"rounds": 4, "widths": 2, "depths": 2, "together": True, "spread": 1.0, "steps": 1}
            strategy = strategies.make("branch", options)
            controller(store, FakeProposer(failing=0.35), strategy=strategy).run()
        return path.read_bytes()


def finished(path: Path) -> Path:
    """A finished search s1 of several rounds, with programs that pass and some that do not, at *path*."""
    path.write_bytes(_finished())
    return path


def change(path: Path, *statements: str) -> None:
    """What another tool, or a bug, might do to the file: without our checks of references and constraints."""
    raw = sqlite3.connect(path, isolation_level=None)
    try:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            raw.execute(statement)
    finally:
        raw.close()


def ask(path: Path, sql: str, *values: Any) -> list[Any]:
    raw = sqlite3.connect(path)
    try:
        return raw.execute(sql, values).fetchall()
    finally:
        raw.close()
