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

from kernelgrove.strategies import DEFAULT

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
    _head("question", "median ms", "least")
    for name, (median, least) in read.questions(path).items():
        _row(name, f"{1e3 * median:.2f}", f"{1e3 * least:.2f}")
    held = []
    for strategy in (DEFAULT, "branch"):
        found = read.resume(path, strategy)
        held.append(f"{strategy} {found.pop('MB'):.0f} MB and {found.pop('processor'):.2f} s")
        total, fastest = found.pop("total"), found.pop("fastest")
        for name, seconds in found.items():
            _row(f"resume with {strategy}: {name}", f"{1e3 * seconds:.0f}", "")
        _row(f"**resume with {strategy}, to the first decision**", f"**{1e3 * total:.0f}**", f"**{1e3 * fastest:.0f}**")
    for words in ("ls", "tree s1 --depth 3"):
        median, least = read.command(*words.split(), "--db", str(path))
        _row(f"`kernelgrove {words}`, the whole process", f"{1e3 * median:.0f}", f"{1e3 * least:.0f}")
    print(f"\nWhat the resuming process held at most, and used of a processor: {'; '.join(held)}.\n")


def _recording(costs: list[record.Cost]) -> None:
    print("### Recording a node, committed and durable (ms a node)\n")
    _head(
        *("nodes", "way", "", "store", "same statements", "ratio"),
        *("three commits", "ratio", "one commit", "ratio", "flushes"),
    )
    for cost in costs:
        for way, words, flushes in zip(("alone", "together"), _WAYS, cost.durable, strict=True):
            for kind, ms in (("median", cost.median), ("fastest tenth", cost.low)):
                cells = [f"{ms[way]:.2f}"]
                for plain in (f"same_{way}", "three", "four"):
                    cells += [f"{ms[plain]:.2f}", f"{ms[way] / ms[plain]:.2f}"]
                _row(f"{cost.nodes:,}", words, kind, *cells, f"{flushes:g}")
    print()
    _head("nodes", "95 % of nodes recorded alone", "of it the program's hash", "an empty transaction, flushed")
    for cost in costs:
        _row(f"{cost.nodes:,}", f"{cost.slow:.2f}", f"{cost.median['hash']:.2f}", f"{cost.median['bare']:.2f}")
    first, last = costs[0], costs[-1]
    print(f"\nFrom {first.nodes:,} to {last.nodes:,} nodes the cost grows by a factor of:\n")
    _head("", *(f"store, {words}" for words in _WAYS), "plain sqlite3, three commits", "one commit")
    for kind, before, after in (("median", first.median, last.median), ("fastest tenth", first.low, last.low)):
        _row(kind, *(f"{after[way] / before[way]:.2f}" for way in ("alone", "together", "three", "four")))
    print()


#: The two ways of recording, in words.
_WAYS = ("alone", f"{record.TOGETHER} ideas an answer")


def _optuna(path: Path, folder: Path, trials: list[int], samples: int) -> None:
    for number in trials:
        found = record.optuna(path, folder / f"optuna{number}", number, samples)
        if found is None:
            print("optuna is not installed: skipped")
            return
        print(f"### Optuna {found.version} on SQLite at {number:,} trials, in turns with the store (ms)\n")
        _head("what", "", "ms", f"over the store's node, {_WAYS[0]}", f"over one of {_WAYS[1]}")
        for what, name in (
            ("ask, idea, code and evaluation as user attributes, tell", "full"),
            ("ask and tell with no payload", "bare"),
        ):
            for kind, ms in (("median", found.median), ("fastest tenth", found.low)):
                ratios = [f"{ms[name] / ms[way]:.1f} ×" for way in ("alone", "together")]
                _row(what, kind, f"{ms[name]:.1f}", *ratios)
        print(
            "\nThe store's node meanwhile: "
            f"{found.median['alone']:.2f} ms {_WAYS[0]}, {found.median['together']:.2f} ms at {_WAYS[1]}.\n"
        )


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
        ratio = (added + sampled) / costs[int(nodes)].median["alone"]
        _row(f"{int(nodes):,}", f"{added:.0f}", f"{sampled:.0f}", f"{ratio:.0f} ×")
    print()


if __name__ == "__main__":
    sys.exit(main())
