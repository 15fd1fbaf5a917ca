"""A KernelBench run: a folder of ``level_L_problem_P_sample_S_kernel.py`` and ``eval_results.json``.

Each problem becomes a search, its samples implementations of the root: nobody wrote their ideas down. Both shapes of
``eval_results.json`` are read: ``{"P": {…}}`` (one sample) and ``{"P": [{"sample_id": S, …}]}``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...model import Basis, EvaluationResult, Outcome, Problem, Stage
from .described import ROOT, Described, DescribedImplementation
from .entries import BrokenFile, entry_of, figure, has, optional, parse_json
from .entries import field as entry_field
from .placeholder import placeholder

STRATEGY = "kernelbench"
RESULTS = "eval_results.json"

_KERNEL = re.compile(r"level_(\d+)_problem_(\d+)_sample_(\d+)_kernel\.py")
_TRIALS = re.compile(r"\((\d+)\s*/\s*(\d+)\)")

Key = tuple[int, int]  # level, problem number


@dataclass(frozen=True)
class Run:
    """A folder as it was read. ``kernels`` is (level, problem) -> sample -> its text."""

    name: str
    sha256: str
    kernels: Mapping[Key, Mapping[int, str]]
    claims: Mapping[Key, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)


def read(folder: Path) -> Run:
    """Raises UsageError where the folder holds no such kernel, BrokenFile for a file of it that cannot be taken."""
    found: dict[Key, dict[int, str]] = {}
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        match = _KERNEL.fullmatch(path.name)
        if match is None and path.name != RESULTS:
            continue
        raw = _bytes(path)
        content.update(f"{path.name}\0{len(raw)}\0".encode() + raw)
        if match is not None:
            level, problem, sample = map(int, match.groups())
            try:
                found.setdefault((level, problem), {})[sample] = raw.decode()
            except UnicodeDecodeError as error:
                raise BrokenFile(str(path), f"not UTF-8 text (byte {error.start})") from None
    if not found:
        raise UsageError(
            f"{folder} holds no level_L_problem_P_sample_S_kernel.py.", "Give the folder of one KernelBench run."
        )
    results = folder / RESULTS
    claims = _claims(parse_json(_bytes(results), str(results)), found, str(results)) if results.is_file() else {}
    return Run(folder.resolve().name, content.hexdigest(), dict(sorted(found.items())), claims)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


def _claims(
    value: Any, kernels: Mapping[Key, Mapping[int, str]], shown: str
) -> dict[Key, dict[int, Mapping[str, Any]]]:
    levels: dict[int, list[int]] = {}
    for level, number in kernels:
        levels.setdefault(number, []).append(level)
    found: dict[Key, dict[int, Mapping[str, Any]]] = {}
    for key, entries in entry_of(value, shown).items():
        where = f"{shown}, {key!r}"
        if not key.isdecimal() or int(key) not in levels:
            raise BrokenFile(where, "there is no kernel of such a problem in the folder")
        number = int(key)
        if len(levels[number]) > 1:
            raise BrokenFile(where, f"problem {number} is there at {len(levels[number])} levels, and this names none")
        place = (levels[number][0], number)
        for index, item in enumerate(entries if isinstance(entries, list) else [entries]):
            at = f"{where}[{index}]" if isinstance(entries, list) else where
            entry = entry_of(item, at)
            sample = optional(entry, "sample_id", int, at) or 0
            if sample not in kernels[place]:
                raise BrokenFile(at, f"there is no kernel of sample {sample} in the folder")
            if sample in found.setdefault(place, {}):
                raise BrokenFile(at, f"a second result for sample {sample}")
            found[place][sample] = {**entry, "": at}
    return found


def describe(run: Run, reference: Callable[[Key], Problem | None]) -> list[Described]:
    """A search for each problem of the run; *reference* knows the problems that the user attaches.

    Raises BrokenFile, which names the entry.
    """
    found = []
    for key, samples in run.kernels.items():
        title = f"level_{key[0]}_problem_{key[1]}"
        claims = run.claims.get(key, {})
        steps = [
            DescribedImplementation(
                key=str(sample),
                node=ROOT,
                code=code,
                claim=_claim(claims[sample]) if sample in claims else None,
                device=_device(claims.get(sample)),
                note=f"sample {sample}",
            )
            for sample, code in sorted(samples.items())
        ]
        found.append(
            Described(
                problem=reference(key) or placeholder(title),
                name=None,
                strategy=STRATEGY,
                models=("unknown",),
                device=next((step.device for step in steps if step.device), None),
                steps=steps,
                origin={"format": STRATEGY, "entry": title, "run": run.name},
            )
        )
    return found


def _claim(entry: Mapping[str, Any]) -> EvaluationResult:
    where = entry[""]
    compiled = entry_field(entry, "compiled", bool, where)
    correct = entry_field(entry, "correctness", bool, where)
    metadata = optional(entry, "metadata", dict, where) or {}
    message = _message(metadata)
    if not compiled:
        outcome, stage = Outcome.COMPILE_ERROR, Stage.COMPILE
    elif not correct and _is_there(metadata, "runtime_error"):
        outcome, stage = Outcome.RUNTIME_ERROR, Stage.RUN
    elif not correct:
        outcome, stage = Outcome.WRONG_RESULT, Stage.CHECK
    else:
        outcome, stage = Outcome.OK, Stage.TIME
    ok = outcome is Outcome.OK
    runtime = figure(entry, "runtime", where) if ok else None
    stats = optional(entry, "runtime_stats", dict, where) or {}
    trials = _TRIALS.search(str(metadata.get("correctness_trials", "")))
    return EvaluationResult(
        outcome,
        stage,
        message=message,
        trials_passed=int(trials[1]) if trials else 0,
        trials_of=int(trials[2]) if trials else 0,
        basis=Basis.IMPORTED,
        time_ms=runtime,
        time_stats=_stats(stats, where) if ok else None,
        detail={"metadata": metadata} if metadata else {},
    )


def _is_there(metadata: Mapping[str, Any], key: str) -> bool:
    return metadata.get(key) not in (None, "", [], {})


def _message(metadata: Mapping[str, Any]) -> str:
    for key in ("compilation_error", "runtime_error", "correctness_issue", "error", "other_error"):
        if _is_there(metadata, key):
            return str(metadata[key])
    return ""


def _stats(stats: Mapping[str, Any], where: str) -> dict[str, float] | None:
    found = {}
    for name, key in (("mean", "mean"), ("std", "std"), ("min", "min"), ("max", "max"), ("n", "num_trials")):
        value = stats.get(key)
        if value is not None and not (has(value, float) and math.isfinite(value)):
            raise BrokenFile(where, f"runtime_stats {key!r} is {value}, which is no figure")
        if value is not None:
            found[name] = float(value)
    return found or None


def _device(entry: Mapping[str, Any] | None) -> str | None:
    """The GPU that a result claims, in its metadata or in its runtime_stats."""
    for part in ("metadata", "runtime_stats"):
        found = (entry or {}).get(part)
        for key in ("hardware", "gpu_name", "device"):
            name = found.get(key) if isinstance(found, dict) else None
            if isinstance(name, str) and name.strip():
                return name.strip()
    return None
