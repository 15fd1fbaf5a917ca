"""What the store costs, next to plain sqlite3, Optuna and ShinkaEvolve, in one run on one disk.

    python -m benchmarks.store                      at 1,000 and 10,000 nodes
    python -m benchmarks.store --full               and at 100,000
    python -m benchmarks.store --optuna 10000       Optuna at that many trials too (its own filling takes minutes)
    python -m benchmarks.store --shinka PYTHON      ShinkaEvolve too, by an interpreter that has it (see shinka_peer.py)

Prints ratios and asserts nothing about seconds, which are the disk's. ``--folder`` says on which disk.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
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
    parser.add_argument("--shinka", metavar="PYTHON", help="an interpreter that has shinka-evolve")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    options = parser.parse_args()
    sizes = options.nodes or [1000, 10_000, *([100_000] if options.full else [])]
    print(
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f} at the start; {options.samples} nodes at each size\n"
    )
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
            if nodes == sizes[0]:  # of the size that Optuna is measured at
                _optuna(path, folder, [n for n in options.optuna if n], options.samples)
        _recording(costs)
        if options.shinka:
            _shinka(options.shinka, folder, sizes, {cost.nodes: cost for cost in costs})
    print(f"Load at the end: {os.getloadavg()[0]:.1f}.")
    return 0


def _questions(path: Path, nodes: int) -> None:
    print(f"### Reading at {nodes:,} nodes ({path.stat().st_size / 1e6:.0f} MB)\n")
    _head("question", "ms")
    for name, seconds in read.questions(path).items():
        _row(name, f"{1e3 * seconds:.2f}")
    found = read.resume(path)
    memory, total = found.pop("MB"), found.pop("total")
    for name, seconds in found.items():
        _row(f"resume in a new process: {name}", f"{1e3 * seconds:.0f}")
    _row("**resume in a new process, to the first decision**", f"**{1e3 * total:.0f}**")
    for words in ("ls", "tree s1 --depth 3"):
        seconds = read.command(*words.split(), "--db", str(path))
        _row(f"`kernelgrove {words}`, the whole process", f"{1e3 * seconds:.0f}")
    print(f"\nThe resuming process held {memory:.0f} MB at most.\n")


def _recording(costs: list[record.Cost]) -> None:
    print("### Recording a node, committed and durable (median ms a node)\n")
    _head(
        "nodes", "way", "store", "same statements", "ratio", "three commits", "ratio", "one commit", "ratio", "flushes"
    )
    for cost in costs:
        for way, store, same, flushes in (
            ("alone", cost.alone, cost.same_alone, cost.durable[0]),
            (f"{record.TOGETHER} ideas an answer", cost.together, cost.same_together, cost.durable[1]),
        ):
            cells = [f"{store:.2f}"]
            for plain in (same, cost.three, cost.four):
                cells += [f"{plain:.2f}", f"{store / plain:.2f}"]
            _row(f"{cost.nodes:,}", way, *cells, f"{flushes:g}")
    print()
    _head("nodes", "95 % of nodes recorded alone", "of it the program's hash", "an empty transaction, flushed")
    for cost in costs:
        _row(f"{cost.nodes:,}", f"{cost.slow:.2f}", f"{cost.hash:.2f}", f"{cost.bare:.2f}")
    first, last = costs[0], costs[-1]
    print(
        f"\nFrom {first.nodes:,} to {last.nodes:,} nodes the store's cost grows by a factor of"
        f" {last.alone / first.alone:.2f} (alone), {last.together / first.together:.2f} ({record.TOGETHER} an answer);"
        f" plain sqlite3's, one commit, by {last.four / first.four:.2f}.\n"
    )


def _optuna(path: Path, folder: Path, trials: list[int], samples: int) -> None:
    for number in trials:
        found = record.optuna(path, folder / f"optuna{number}", number, samples)
        if found is None:
            print("optuna is not installed: skipped")
            return
        print(f"### Optuna {found.version} on SQLite at {number:,} trials, in turns with the store (median ms)\n")
        _head("what", "ms", "over the store's node, alone", f"over one of {record.TOGETHER} an answer")
        for what, took in (
            ("ask, idea, code and evaluation as user attributes, tell", found.full),
            ("ask and tell with no payload", found.bare),
        ):
            _row(what, f"{took:.1f}", f"{took / found.alone:.1f} ×", f"{took / found.together:.1f} ×")
        print(f"\nThe store's node meanwhile: {found.alone:.2f} ms alone, {found.together:.2f} ms together.\n")


def _shinka(python: str, folder: Path, sizes: list[int], costs: dict[int, record.Cost]) -> None:
    script = Path(__file__).with_name("shinka_peer.py")
    place = folder / "shinka"
    place.mkdir()
    command = [python, str(script), str(place), "20", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"ShinkaEvolve did not run: {done.stderr.strip().splitlines()[-1:]}\n")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"### ShinkaEvolve {found['version']} on SQLite (synchronous = {found['synchronous']}), median ms a program\n"
    )
    _head("programs", "add", "sample", "both over the store's node, alone")
    for nodes, (added, sampled, _) in found["sizes"].items():
        ratio = (added + sampled) / costs[int(nodes)].alone
        _row(f"{int(nodes):,}", f"{added:.0f}", f"{sampled:.0f}", f"{ratio:.0f} ×")
    print()


if __name__ == "__main__":
    sys.exit(main())
