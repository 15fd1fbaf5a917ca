"""Values as people type them on a command line: durations, lists, ``key=value``, files. Standard library only.

Every function raises UsageError with one sentence that names the option and shows a value that would do.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:[smhd]|$))+", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.IGNORECASE)


def seconds(text: str | None, option: str) -> float | None:
    """``90``, ``90s``, ``15m``, ``1h30m``, ``2d`` in seconds; None stays None."""
    if text is None:
        return None
    value = text.strip()
    total = 0.0
    if _DURATION.fullmatch(value):
        total = sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(value))
    if total <= 0:
        raise UsageError(f"{option} {text!r} is not a time above zero.", "Write seconds or a unit: 90, 15m, 1h30m.")
    return total


def integers(text: str | None, option: str) -> tuple[int, ...] | None:
    """``3,4,4,5`` or ``3`` as positive integers; None stays None."""
    if text is None:
        return None
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1:
        raise UsageError(f"{option} {text!r} is not a list of numbers above zero.", f"Write {option} 3,4,4,5.")
    return values


def assignments(pairs: list[str] | None, option: str = "-o") -> dict[str, Any]:
    """``key=value`` pairs; a value is read as JSON where it is JSON, ``3,4,4,5`` as a list, else as text."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, sign, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not sign or not key.isidentifier():
            raise UsageError(f"{option} {pair!r} is not key=value.", f"Write {option} rounds=3.")
        found[key] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "," in text:
        return [_value(part.strip()) for part in text.split(",")]
    return text


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
