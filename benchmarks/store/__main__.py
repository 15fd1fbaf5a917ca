"""What the store costs, next to plain sqlite3 and to Optuna, in one run on one disk.

    python -m benchmarks.store                  at 1,000 and 10,000 nodes
    python -m benchmarks.store --full           and at 100,000
    python -m benchmarks.store --optuna 10000   Optuna at that many trials too (its own filling takes minutes)

Prints ratios and asserts nothing about seconds, which are the disk's. ``--folder`` says on which disk.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from . import grove as groves
from . import read, record


def _row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def _head(*cells: str) -> None:
    _row(*cells)
    _row(*("---" for _ in cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="measure at 100,000 nodes too")
    parser.add_argument("--nodes", type=int, nargs="+", help="measure at these sizes instead")
    parser.add_argument("--samples", type=int, default=100, help="nodes recorded at each size")
    parser.add_argument("--optuna", type=int, nargs="+", default=[1000], metavar="TRIALS", help="0: leave it out")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    options = parser.parse_args()
    sizes = options.nodes or [1000, 10_000, *([100_000] if options.full else [])]
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {options.samples} nodes at each size\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        path = folder / "grove.db"
        groves.new(path).store.close()
        costs = []
        for nodes in sizes:
            started = time.monotonic()
            groves.fill(path, nodes)
            print(f"filled to {nodes:,} nodes in {time.monotonic() - started:.0f} s", file=sys.stderr)
            costs.append(record.measure(path, folder, options.samples))
            _questions(path, nodes)
        _recording(costs)
        _optuna(folder, [n for n in options.optuna if n], options.samples, costs[0])
    return 0


def _questions(path: Path, nodes: int) -> None:
    print(f"### Reading at {nodes:,} nodes ({path.stat().st_size / 1e6:.0f} MB)\n")
    _head("question", "ms")
    for name, seconds in read.questions(path).items():
        _row(name, f"{1e3 * seconds:.2f}")
    found = read.resume(path)
    memory = found.pop("MB")
    for name, seconds in found.items():
        _row(f"resume in a new process: {name}", f"{1e3 * seconds:.0f}")
    _row("`kernelgrove ls`, the whole process", f"{1e3 * read.command('ls', '--db', str(path)):.0f}")
    _row("`kernelgrove tree s1`, the whole process", f"{1e3 * read.command('tree', 's1', '--db', str(path)):.0f}")
    print(f"\nThe resuming process held {memory:.0f} MB at most.\n")


def _recording(costs: list[record.Cost]) -> None:
    print("### Recording a node, committed and durable (median ms a node)\n")
    _head(
        "nodes",
        "store",
        "95 %",
        "of it the program's hash",
        "plain sqlite3, same statements",
        "ratio",
        "plain, four rows at once",
        "ratio",
        "commits",
    )
    for cost in costs:
        cells = [f"{value:.2f}" for value in (cost.store, cost.slow, cost.hash, cost.same)]
        cells += [f"{cost.store / cost.same:.2f}", f"{cost.four:.2f}", f"{cost.store / cost.four:.1f}"]
        _row(f"{cost.nodes:,}", *cells, f"{cost.commits} and 1")
    growth = costs[-1].store / costs[0].store
    print(
        f"\nFrom {costs[0].nodes:,} to {costs[-1].nodes:,} nodes the store's cost grows by a factor of {growth:.2f}.\n"
    )


def _optuna(folder: Path, trials: list[int], samples: int, cost: record.Cost) -> None:
    for number in trials:
        found = record.optuna(folder / f"optuna{number}", number, samples)
        if found is None:
            print("optuna is not installed: skipped")
            return
        version, full, bare = found
        print(f"### Optuna {version} on SQLite at {number:,} trials, median ms a trial\n")
        _head("what", "ms", "over the store's node")
        _row("ask, idea, code and evaluation as user attributes, tell", f"{full:.1f}", f"{full / cost.store:.1f} ×")
        _row("ask and tell with no payload", f"{bare:.1f}", f"{bare / cost.store:.1f} ×")
        print()


if __name__ == "__main__":
    sys.exit(main())
