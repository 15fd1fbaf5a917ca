"""What came of each file of the corpus, as the tables of docs/benchmarks/sandbox.md.

pytest -m gpu tests/sandbox --judged judged.jsonl; python -m benchmarks.evaluator.corpus judged.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "sandbox"))

from corpus import FAMILIES, exploits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judged", type=Path, help="what `pytest tests/sandbox --judged` wrote")
    judged = read(parser.parse_args().judged)
    order = ("honest", *FAMILIES)
    names = sorted(judged, key=lambda name: (order.index(name.split("/")[0]), name))
    timed = [name for name in names if judged[name].get("timing")]
    print(times(judged, timed))
    print()
    print(outcomes(judged, [name for name in names if name not in timed]))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """By name; of what was judged several times, the last."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["name"]: line for line in lines}


def times(judged: dict[str, dict[str, Any]], names: list[str]) -> str:
    """In µs, a row a file that was timed."""
    twins = {entry.name: f"honest/{entry.fields['twin']}" for entry in exploits() if "twin" in entry.fields}
    rows = [
        "| file | claim | bound | alone | score | honest twin | clock |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        timing = judged[name]["timing"]
        shown = [_us(timing.get(f"{key}_ms")) for key in ("claim", "bound", "serial")]
        twin = judged.get(twins.get(name, ""), {}).get("time_ms")
        score = _us(judged[name]["time_ms"])
        rows.append(f"| `{name}` | {' | '.join(shown)} | **{score}** | {_us(twin)} | {timing.get('clock', '')} |")
    return "\n".join(rows)


def outcomes(judged: dict[str, dict[str, Any]], names: list[str]) -> str:
    """The files that were not timed, by what came of them."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(judged[name].get("outcome", "the evaluator failed"), []).append(name)
    rows = [f"| `{outcome}` | {len(files)} | {', '.join(files)} |" for outcome, files in sorted(found.items())]
    return "\n".join(["| outcome | files | |", "| --- | --- | --- |", *rows])


def _us(ms: float | None) -> str:
    return "" if ms is None else f"{1000 * ms:.4g}"


if __name__ == "__main__":
    main()
