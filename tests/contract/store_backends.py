"""The stores that the contract suite runs over. A new one is added to BACKENDS; the suite stays as it is.

A backend makes an empty database in a folder of the test's own, and opens one that is there already, as another process
would. One that needs a server says in ``missing`` why it cannot run here; its tests are skipped with that reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernelgrove.engine.budget import Ledger
from kernelgrove.storage import open_store


@dataclass(frozen=True)
class Backend:
    new: Callable[[Path], Ledger]
    again: Callable[[Path], Ledger]
    missing: Callable[[], str | None] = lambda: None


@cache
def _new_file() -> bytes:
    """A database just made: copying it is quicker than migrating for every test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        open_store(path, create=True).close()
        return path.read_bytes()


def _sqlite(folder: Path) -> Ledger:
    path = folder / "grove.db"
    path.write_bytes(_new_file())
    return open_store(path)


BACKENDS = {"sqlite": Backend(_sqlite, lambda folder: open_store(folder / "grove.db"))}
