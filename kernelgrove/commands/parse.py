"""What people type on a command line or keep in a manifest: ``key=value``, files. Standard library only.

Every function raises UsageError with one sentence that names the option and shows a value that would do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UsageError


def assignments(pairs: list[str] | None, option: str = "-o") -> dict[str, str]:
    """``key=value`` pairs as text; whoever knows the key reads the value."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, sign, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not sign or not key.isidentifier():
            raise UsageError(f"{option} {pair!r} is not key=value.", f"Write {option} rounds=3.")
        found[key] = value.strip()
    return found


def duration(text: str, option: str) -> float:
    """Seconds in ``90``, ``15m``, ``1h30m``."""
    from ..config import seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise UsageError(f"{option} must be {error}, not {text!r}.") from None


def read_text(path: str, what: str) -> str:
    """The text of a file that the user named; UsageError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"There is no {what} {path}.", "Check the path.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not a {what}.", "Name a file in it.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The {what} {path} is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror}.") from None


def manifest(path: str) -> list[dict[str, Any]]:
    """The lines of a manifest: ``{"problem": NAME_OR_FILE, "candidate": FILE, "size": NAME?}``.

    Relative files are looked for beside the manifest. Blank lines are skipped. Everything is checked before anything
    is judged.
    """
    folder = Path(path).parent
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path, "manifest").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}: not JSON: {error}.", 'Write {"problem": "…", "candidate": "…"}.') from None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("problem", "candidate")):
            raise UsageError(f"{where}: not an object with problem and candidate.", "Both are names of files.")
        unknown = sorted(set(row) - {"problem", "candidate", "size"})
        if unknown:
            raise UsageError(f"{where}: unknown key {unknown[0]!r}.", "A line has problem, candidate and maybe size.")
        beside = folder / row["problem"]
        problem = str(beside) if row["problem"].endswith(".py") else row["problem"]
        rows.append({**row, "problem": problem, "candidate": str(folder / row["candidate"])})
    if not rows:
        raise UsageError(f"The manifest {path} is empty.", 'Write {"problem": "…", "candidate": "…"} a line.')
    return rows
