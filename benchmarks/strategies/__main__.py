"""Compare strategies, baselines and peers over the landscapes and write the report.

    python -m benchmarks.strategies                    writes docs/benchmarks/strategies.md and its pictures
    python -m benchmarks.strategies --development 20   what strategies are developed with: other seeds, four landscapes
    python -m benchmarks.strategies --decisions        decision time alone
    python -m benchmarks.strategies --speed            searches a minute

Searches are kept in ``--kept`` as they end, and a run that was stopped goes on; a change to the code starts anew. A
peer that is not installed (requirements.txt) is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from . import contenders, large, report, runs, suite
from .peers import PEERS
from .recorded import shipped
from .runs import Outcome, Task

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "benchmarks" / "strategies.md"
#: Searches that only check an assumption, or run on a small recorded space, take fewer seeds.
_FEWER = 25


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--development", type=int, metavar="SEEDS", help="print regrets on development seeds; no report"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone, or a module:Class; no report")
    parser.add_argument("--decisions", action="store_true", help="print decision times and stop")
    parser.add_argument("--speed", action="store_true", help="print searches a minute and stop")
    parser.add_argument("--seeds", type=int, default=len(suite.REPORT_SEEDS), help="fewer for a quick look")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, default=_ROOT / "build" / "strategies.jsonl")
    parser.add_argument("--page", type=Path, default=_PAGE, help="where the report is written")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # OpenEvolve goes through sets of strings
        os.execve(
            sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    if options.decisions:
        print(report.decisions(large.measure()))
        return 0
    if options.speed:
        print(_speed(options.processes))
        return 0
    missing = contenders.missing_peers()
    for name, how in missing.items():
        print(f"{name} is left out: {how}", file=sys.stderr)
    names = [name for name in options.only or contenders.names() if name not in missing]
    unknown = [name for name in names if name not in contenders.names() and ":" not in name]
    if unknown:
        print(f"no contender {unknown[0]!r}. There are: {', '.join(contenders.names())}", file=sys.stderr)
        return 2
    runner = _Runner(options.kept, options.processes)
    if options.development:
        seeds = range(suite.DEVELOPMENT_SEEDS, suite.DEVELOPMENT_SEEDS + options.development)
        print(report.plain(runner.found(names, report.SEEN, seeds)))
        return 0
    seeds = suite.REPORT_SEEDS[: options.seeds]
    found = runner.found(names, [*report.SEEN, *report.HELD_OUT], seeds)
    if options.only:
        print(report.main_table(found))
        return 0
    _write(options.page, runner, found, seeds, missing)
    return 0


class _Runner:
    def __init__(self, kept: Path, processes: int) -> None:
        self.kept, self.processes = kept, processes
        self.mark = runs.fingerprint(_ROOT)

    def found(
        self, names: Sequence[str], landscapes: Sequence[str], seeds: Sequence[int], **more: object
    ) -> dict[str, dict[str, list[Outcome]]]:
        tasks = [Task(n, land, seed, **more) for seed in seeds for land in landscapes for n in names]  # type: ignore[arg-type]
        outcomes = runs.run(tasks, self.kept, self.mark, self.processes)
        found: dict[str, dict[str, list[Outcome]]] = {name: {land: [] for land in landscapes} for name in names}
        for outcome in outcomes:
            found[outcome.task.contender][outcome.task.landscape].append(outcome)
        return found


def _write(page: Path, runner: _Runner, found: report.Found, seeds: Sequence[int], missing: dict[str, str]) -> None:
    every = [*report.SEEN, *report.HELD_OUT]
    fewer = seeds[:_FEWER]
    assumed: dict[str, report.Landscapes] = {
        "as committed": {k: v[: len(fewer)] for k, v in found["tree_of_thought"].items()}
    }
    for variant in ("thinking adds nothing", "ratings say nothing", "neither"):
        assumed[variant] = runner.found(["tree_of_thought"], every, fewer, variant=variant)["tree_of_thought"]
    peers = [name for name in PEERS if name in found]
    slower = runner.found(peers, every, fewer, calls_at_once=2) if peers else {}
    paired = {f"{n}, {k} at once": v for n in peers for k, v in ((8, _first(found[n], len(fewer))), (2, slower[n]))}
    grown = runner.found(list(found), [path.stem for path in shipped()], fewer, evaluations=50)
    sections = {
        "MAIN": report.main_table(found),
        "PEERS": report.against_peers(found) if peers else "No peer was installed.\n",
        "LOSSES": report.losses_to_best_of_n(found),
        "DOLLARS": report.at_equal_dollars(found),
        "LAND_50": report.by_landscape(found, 50),
        "LAND_100": report.by_landscape(found, 100),
        "LAND_300": report.by_landscape(found, 300),
        "HELD_OUT": report.held_out(found),
        "ASSUMED": report.plain(assumed),
        "AT_ONCE": report.plain(paired) if peers else "No peer was installed.\n",
        "GROVES": report.groves(grown),
        "DECISIONS": report.decisions(large.measure()),
        "SPEED": _speed(runner.processes),
        "SEEDS": f"{len(seeds)}",
        "FEW": ""
        if len(seeds) == len(suite.REPORT_SEEDS)
        else f" of {len(suite.REPORT_SEEDS)} (all without `--seeds`)",
        "GIVEN": f" --seeds {len(seeds)}" if len(seeds) < len(suite.REPORT_SEEDS) else "",
        "MACHINE": f"{platform.machine()}, {os.cpu_count()} CPUs, no GPU needed",
        "FEWER": f"{len(fewer)}",
        "VERSIONS": ", ".join(
            [f"{name} {version}" for name, version in contenders.versions().items()]
            + [f"Python {sys.version.split()[0]}", f"numpy {metadata.version('numpy')}"]
        )
        + "".join(f"; {name} left out: {how}" for name, how in missing.items()),
    }
    text = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    for name, section in sections.items():
        text = text.replace("{{" + name + "}}", section.rstrip("\n"))
    page.write_text(text, encoding="utf-8")
    page.with_name("strategies-evaluations.svg").write_text(report.evaluation_curves(found), encoding="utf-8")
    page.with_name("strategies-dollars.svg").write_text(report.dollar_curves(found), encoding="utf-8")
    print(f"wrote {page} and two pictures beside it")


def _first(by_landscape: report.Landscapes, count: int) -> dict[str, Sequence[Outcome]]:
    return {name: outcomes[:count] for name, outcomes in by_landscape.items()}


def _speed(processes: int) -> str:
    """Searches of 100 evaluations a minute, in this process and so in each."""
    rows = []
    for name in contenders.OURS:
        begun = time.monotonic()
        for seed in range(8):
            runs.search(Task(name, "reduction", suite.DEVELOPMENT_SEEDS + seed, evaluations=100))
        rate = 60 * 8 / (time.monotonic() - begun)
        rows.append([name, f"{rate:,.0f}", f"{processes * rate:,.0f}"])
    return report.table(["searches of 100 evaluations a minute", "one process", f"{processes} processes"], rows)


if __name__ == "__main__":
    raise SystemExit(main())
