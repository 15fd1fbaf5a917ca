"""Kernels as KernelBench lays out a run: ``level_L_problem_P_sample_S_kernel.py`` and ``eval_results.json``.

That format has no word for a figure's basis: a ``runtime`` in it is read as a time on a GPU. So a projected time is
never written there: the entry says -1, as KernelBench does for "not timed", and the figure stands with its basis under
``metadata.kernelgrove``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..ids import parse_as, show
from ..overview import leaders, search_row
from ..queries import first, rows
from ..store import SqliteStore

#: name and path of a problem -> its KernelBench level and number, None where it has none.
Identify = Callable[[str, str | None], tuple[int, int] | None]

_PASSED = """
SELECT i.id FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id
WHERE i.search_id = :search AND e.outcome = 'ok' AND i.duplicate_of IS NULL ORDER BY i.id
"""
_KERNEL = """
SELECT i.id, i.model, n.idea, p.code, e.id AS evaluation, e.basis, e.device_key, e.target, e.time_ms, e.time_stats,
       e.baselines, e.speedup, e.trials_passed, e.trials_of
FROM implementation i JOIN node n ON n.id = i.node_id JOIN program p ON p.hash = i.program
JOIN evaluation e ON e.id = i.evaluation_id WHERE i.id = :implementation
"""


def collect(store: SqliteStore, searches: Sequence[int], identify: Identify, *, every: bool) -> dict[str, str]:
    """file name -> its text: the best kernel of each search, or with *every* each that passed.

    A problem that is not KernelBench's, or whose number another problem has (``eval_results.json`` names no level),
    is given level 0 and a free number. Samples are numbered from 0, over all searches of a problem. Empty where
    nothing has passed. Raises NotFound.
    """
    files: dict[str, str] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    places: dict[str, tuple[int, int]] = {}  # problem digest -> level, number
    for search in searches:
        with store.read() as connection:
            row = search_row(connection, search)
        digest = row["problem_digest"]
        if digest not in places:
            taken = {number for _, number in places.values()}
            place = identify(row["problem"], row["path"])
            places[digest] = (0, 1 + max(taken, default=0)) if place is None or place[1] in taken else place
        level, number = places[digest]
        for kernel in _kernels(store, search, every):
            entries = results.setdefault(str(number), [])
            files[f"level_{level}_problem_{number}_sample_{len(entries)}_kernel.py"] = kernel["code"]
            entries.append(_entry(kernel, row["problem"], search, len(entries)))
    if files:
        files["eval_results.json"] = json.dumps(results, indent=4, ensure_ascii=False, allow_nan=False) + "\n"
    return files


def _kernels(store: SqliteStore, search: int, every: bool) -> list[dict[str, Any]]:
    best = [] if every else [parse_as("i", found["implementation"]) for found in leaders(store, search, 1)]
    with store.read() as connection:
        chosen = [row.id for row in rows(connection, _PASSED, search=search)] if every else best
        found = (first(connection, _KERNEL, implementation=implementation) for implementation in chosen)
        return [kernel for kernel in found if kernel is not None]


def _entry(kernel: dict[str, Any], problem: str, search: int, sample: int) -> dict[str, Any]:
    timed = kernel["basis"] != "projected" and kernel["time_ms"] is not None
    stats = {"num_trials" if key == "n" else key: value for key, value in (kernel["time_stats"] or {}).items()}
    trials = f"({kernel['trials_passed']} / {kernel['trials_of']})" if kernel["trials_of"] else None
    return {
        "sample_id": sample,
        "compiled": True,
        "correctness": True,
        "metadata": {
            "hardware": kernel["target"],
            **({"correctness_trials": trials} if trials else {}),
            "kernelgrove": {
                "basis": kernel["basis"],
                "problem": problem,
                "search": show("s", search),
                "implementation": show("i", kernel["id"]),
                "evaluation": show("e", kernel["evaluation"]),
                "idea": kernel["idea"],
                "model": kernel["model"],
                "device": kernel["device_key"],
                "time_ms": kernel["time_ms"],
                "baselines": kernel["baselines"],
                "speedup": kernel["speedup"],
            },
        },
        "runtime": kernel["time_ms"] if timed else -1.0,
        "runtime_stats": stats if timed else {},
    }
