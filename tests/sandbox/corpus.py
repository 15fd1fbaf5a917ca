"""The corpus: candidate files with a header of comments that says what each tries and what may come of it.

A header is lines ``# key: text`` at the top of the file, a longer text going on in lines ``#   more``:

=============== ======================================================================================================
``problem``     a file of ``problems/``
``runs``        ``cpu``, ``gpu`` or ``both``
``does``        what the file does, one sentence
``naive``       what an evaluator like KernelBench's would conclude (one process, CUDA events, allclose at 1e-2). It
                begins with ``accepted``, ``accepted, faster`` or ``refused`` where naive.py is asked and must agree (if
                the file runs on the CPU), with ``fooled`` where that hangs on something that naive.py does not do
``accept``      outcomes that are right, and ``true-time`` (ok, not faster than its honest twin), ``floor`` (ok, and
                projected no faster than compulsory bytes allow), ``ok``; ``accept cpu``, ``accept gpu`` if they differ
``stops``       what stops it; ``remains``: what stays possible
``twin``        the honest file whose time it is held against
``timed``       ``yes`` asks for a time without a twin; ``gpu``: with one, but not on the CPU, where it takes seconds
``provenance``  the tag that an ``ok`` must carry (``any``: not looked at)
``timeout``     seconds a stage; ``repeat``: how often it is judged; ``leaves``: a path that must not exist afterwards
``checks``      ``speedup``: the speedup too is held against the twin's
``alone``       why it may not be judged beside others
``open``        the known hole that lets it through as yet; ``open gpu``: on a GPU
=============== ======================================================================================================

A program that finds the sandbox open raises an error that says BREACH: that is a failure whatever the outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROBLEMS = HERE / "problems"
FAMILIES = ("clock", "deferred", "channel", "replay", "stealing", "tampering", "cheap", "host")
OUTCOMES = frozenset(
    "ok compile_error runtime_error wrong_result timeout out_of_memory worker_died rejected true-time floor".split()
)
_KEYS = frozenset(
    "problem runs does naive accept stops remains twin timed provenance timeout repeat leaves checks alone open".split()
) | {"accept cpu", "accept gpu", "naive size", "open gpu"}


@dataclass(frozen=True)
class Entry:
    path: Path
    family: str  # of an exploit, or "honest"
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.family}/{self.path.stem}"

    @property
    def code(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def timed_on(self, device: str) -> bool:
        if self.fields.get("timed") == "gpu" and device == "cpu":
            return False
        return "timed" in self.fields or "twin" in self.fields

    @property
    def timeout_s(self) -> float:
        return float(self.fields.get("timeout", "30"))

    def runs_on(self, device: str) -> bool:
        return self.fields["runs"] in ("both", "cpu" if device == "cpu" else "gpu")

    def hole(self, device: str) -> str | None:
        return self.fields.get("open") or (self.fields.get("open gpu") if device != "cpu" else None)

    def accepted(self, device: str) -> frozenset[str]:
        kind = "cpu" if device == "cpu" else "gpu"
        text = self.fields.get(f"accept {kind}", self.fields["accept"])
        return frozenset(text.replace(" ", "").split(","))


def header(path: Path) -> dict[str, str]:
    """The fields at the top of *path*. Raises ValueError for a line that is none, and for an unknown or missing key."""
    fields: dict[str, str] = {}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if found := re.fullmatch(r"# ([a-z][a-z ]*): (.+)", line):
            key = found[1]
            fields[key] = found[2]
        elif line.startswith("#   ") and key:
            fields[key] += " " + line[1:].strip()
        else:
            raise ValueError(f"{path}: {line!r} is no line of a header")
    wrong = set(fields) - _KEYS | {"problem", "runs", "does", "accept"} - set(fields)
    if wrong:
        raise ValueError(f"{path}: unknown or missing in its header: {', '.join(sorted(wrong))}")
    return fields


def exploits() -> list[Entry]:
    return list(_entries(HERE / "exploits", FAMILIES))


def honest() -> list[Entry]:
    return list(_entries(HERE, ("honest",)))


def _entries(folder: Path, families: tuple[str, ...]) -> Iterator[Entry]:
    for family in families:
        for path in sorted((folder / family).glob("*.py")):
            yield Entry(path, family, header(path))
