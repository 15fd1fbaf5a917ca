"""Sealed figures against CUDA events in a plain script, over twenty kernels; and one kernel judged again and again.

python -m benchmarks.evaluator.accuracy [--kernels N] [--again 20] [--spread 60]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Problem

from .kernels import KERNELS, Kernel


def plain(kernel: Kernel) -> float:
    command = [sys.executable, "-m", "benchmarks.evaluator.plain", kernel.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"the plain script failed for {kernel.name}:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["ms"])


def sealed(pool: Pool, instance: Instance, kernel: Kernel) -> EvaluationResult:
    return pool.evaluate(
        EvaluationRequest(instance, kernel.candidate, trials=2, baselines=("eager",), timeout_s=60.0, samples=40)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=len(KERNELS))
    parser.add_argument("--again", type=int, default=20, help="how often one kernel is judged")
    parser.add_argument("--spread", type=float, default=60.0, help="over so many seconds")
    options = parser.parse_args()
    print(
        "| kernel | plain, ms | sealed, ms | sealed ÷ plain | clock (calls x chunks) | bound | serial | judged in s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with Pool("cuda:0", parallel=1) as pool:
        for kernel in KERNELS[: options.kernels]:
            instance = pool.prepare(Problem(kernel.name, kernel.problem))
            found = sealed(pool, instance, kernel)
            if found.time_ms is None:
                print(
                    f"| {kernel.name} | - | {found.outcome}: {found.message[:300]} | | | | | {found.wall_s:.2f} |",
                    flush=True,
                )
                continue
            timing, reference = found.detail["timing"], plain(kernel)
            row = [kernel.name, f"{reference:.4f}", f"{found.time_ms:.4f}", f"{found.time_ms / reference:.3f}"]
            row += [f"{timing['clock']} ({timing['calls_a_chunk']} x {timing['chunks']})", f"{timing['bound_ms']:.4f}"]
            row += [f"{timing['serial_ms']:.4f}" if "serial_ms" in timing else "-", f"{found.wall_s:.2f}"]
            print(f"| {' | '.join(row)} |", flush=True)
        if options.again:
            again(pool, options.again, options.spread)


def again(pool: Pool, times: int, seconds: float) -> None:
    """The same kernel *times* times over *seconds*: how far the figures lie apart."""
    for name in ("softmax 4096 x 8192", "scale_add 2^24"):
        kernel = next(kernel for kernel in KERNELS if kernel.name == name)
        instance = pool.prepare(Problem(kernel.name, kernel.problem))
        figures = []
        for number in range(times):
            started = time.monotonic()
            found = sealed(pool, instance, kernel)
            assert found.time_ms is not None, found.message
            figures.append(found.time_ms)
            if number + 1 < times:
                time.sleep(max(0.0, seconds / times - (time.monotonic() - started)))
        middle = statistics.median(figures)
        spread = 100 * (max(figures) - min(figures)) / middle
        deviation = 100 * statistics.stdev(figures) / middle
        print(
            f"\n{name}, judged {times} times over {seconds:.0f} s: median {middle:.5f} ms, from {min(figures):.5f} to "
            f"{max(figures):.5f}: {spread:.2f} % apart, standard deviation {deviation:.2f} %"
        )


if __name__ == "__main__":
    main()
