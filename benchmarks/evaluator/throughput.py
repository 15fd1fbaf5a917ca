"""Candidates a minute on a mix, where the time went, and the field's way on some of the same candidates.

python -m benchmarks.evaluator.throughput [--device cuda:0] [--parallel N] [--repeat N] [--naive N] [--search]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, EvaluationResult
from kernelgrove.problems.problem import load

from .mix import Candidate, mix, write


class Busy(threading.Thread):
    """How much of the time some kernel ran on the GPU, as the driver tells it, sampled ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[int] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as smi:
                assert smi.stdout is not None
                for line in smi.stdout:
                    if line.strip().isdigit():
                        self.samples.append(int(line))
                    if self.stopped.is_set():
                        smi.terminate()
                        return
        except FileNotFoundError:
            return


def judge_all(pool: Pool, candidates: list[Candidate], beating: bool) -> tuple[list[EvaluationResult], list[float]]:
    """What was found of each, and when one after the other was known, by the monotonic clock. *beating*: each is told
    the best time of its problem so far, as in a search: what cannot beat it is screened."""
    known: list[float] = []
    names = list(dict.fromkeys(candidate.problem for candidate in candidates))
    best: dict[str, float] = {}

    def judge(candidate: Candidate) -> EvaluationResult:
        beat = best.get(candidate.problem) if beating else None
        instance = instances[candidate.problem]
        found = pool.evaluate(EvaluationRequest(instance, candidate.code, timeout_s=30.0, best_ms=beat))
        known.append(time.monotonic())
        if found.time_ms is not None:
            best[candidate.problem] = min(found.time_ms, best.get(candidate.problem, found.time_ms))
        return found

    with ThreadPoolExecutor(pool.parallel) as threads:
        instances = dict(zip(names, threads.map(lambda name: pool.prepare(load(name)), names), strict=True))
        return list(threads.map(judge, candidates)), sorted(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--parallel", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--once", action="store_true", help="only with nothing kept from before")
    parser.add_argument("--search", action="store_true", help="tell each the time to beat, as a search does")
    parser.add_argument("--naive", type=int, default=6, help="candidates judged the field's way, one process each")
    options = parser.parse_args()
    candidates = mix(options.repeat)
    os.environ["KERNELGROVE_CACHE"] = tempfile.mkdtemp()
    print("nothing kept from before:")
    results, rate = first(options.device, options.parallel, candidates, options.search)
    if not options.once:
        print("\ncompiled baselines kept from before:")
        results, rate = first(options.device, options.parallel, candidates, options.search)
    if options.naive:
        naive(candidates[: options.naive], results, rate)


def first(
    device: str, parallel: int | None, candidates: list[Candidate], beating: bool
) -> tuple[list[EvaluationResult], float]:
    """All candidates on a fresh pool; its start counts."""
    started = time.monotonic()
    with Pool(device, parallel=parallel) as pool:
        busy = Busy()
        busy.start()
        results, known = judge_all(pool, candidates, beating)
        wall = time.monotonic() - started
        busy.stopped.set()
        at_once = pool.parallel
    rate = 60 * len(candidates) / wall
    sealed = sum(found.timing == "sealed" for found in results)
    print(f"{sealed} timed under seal, {sum(found.timing == 'screened' for found in results)} screened alone")
    print(f"{len(candidates)} candidates, {at_once} at once, {os.cpu_count()} cores: {wall:.1f} s, {rate:.0f} a minute")
    timed = [at - started for at in known]
    half = len(timed) // 2
    later = 60 * (len(timed) - half) / (timed[-1] - timed[half - 1])
    print(f"half of them were known after {timed[half - 1]:.1f} s, the others at {later:.0f} a minute")
    if busy.samples:
        print(f"the GPU was busy {statistics.fmean(busy.samples):.0f} % of that time ({len(busy.samples)} samples)")
    seconds: Counter[str] = Counter()
    for found in results:
        seconds.update(found.detail.get("seconds", {}))
    whole = sum(seconds.values())
    shares = ", ".join(f"{k} {v:.1f} s ({100 * v / whole:.0f} %)" for k, v in seconds.most_common())
    print("where evaluations spent their time, all threads together:", shares)
    eager = [found.detail.get("baselines", {}).get("eager", {}).get("seconds") for found in results]
    print("an eager baseline, made once a problem:", next((seconds for seconds in eager if seconds), None))
    ahead = Counter(str(found.detail.get("ahead", {}).get("files")) for found in results)
    print("files compiled ahead, by candidate:", dict(ahead))
    wrong = [
        (c.problem, c.kind, str(r.outcome), r.message[:160])
        for c, r in zip(candidates, results, strict=True)
        if r.outcome not in c.outcomes
    ]
    again = Counter(
        str(found.detail["judged_again_after"])[:90] for found in results if "judged_again_after" in found.detail
    )
    print("judged again alone, after memory ran out in company:", dict(again) or "none")
    print("outcomes:", dict(Counter(str(r.outcome) for r in results)), "not as expected:", wrong or "none")
    return results, rate


def naive(candidates: list[Candidate], results: list[EvaluationResult], rate: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pairs = write(Path(folder), candidates)
        started = time.monotonic()
        for (problem, file), candidate, ours in zip(pairs, candidates, results, strict=False):
            command = [sys.executable, "-m", "benchmarks.evaluator.naive", str(problem), str(file)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            said = (
                json.loads(done.stdout.splitlines()[-1])
                if done.returncode == 0 and done.stdout
                else {"outcome": "died"}
            )
            if said["outcome"] != ours.outcome:
                print(f"  another verdict on {candidate.problem} ({candidate.kind}): {said} against {ours.outcome}")
        wall = time.monotonic() - started
    slow = 60 * len(candidates) / wall
    print(
        f"a process a candidate, {len(candidates)} of the same: {wall:.1f} s, {slow:.1f} a minute, {rate / slow:.1f} x"
    )


if __name__ == "__main__":
    main()
