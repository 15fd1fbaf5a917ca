"""Tables that a user adds to those that ship: a TOML file, where the environment or the configuration folder says."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from ..errors import UsageError


def own_file(variable: str, default: Path) -> Path | None:
    """The file that the environment *variable* names, else *default* where it is there."""
    named = os.environ.get(variable)
    if named:
        return Path(named).expanduser()
    own = default.expanduser()
    return own if own.is_file() else None


def own_tables(path: Path, what: str, example: str) -> dict[str, dict[str, Any]]:
    """The tables in *path*, the user's *what* file. Raises UsageError when it cannot be read, is not TOML, or has a key
    outside of any table, of which *example* says how one is written."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The {what} file {path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The {what} file {path} is not TOML: {error}.", "Correct that line.") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"The {what} file {path} has a key {name!r} outside any table.", example)
    return tables
