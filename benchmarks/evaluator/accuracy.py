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
from kernelgrove.errors import KernelGroveError
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Problem

from .kernels import KERNELS, Kernel


def plain(names: list[str]) -> dict[str, float]:
    """Median by plain events of each kernel, ms, in a process with nothing of the evaluator in it."""
    command = [sys.executable, "-m", "benchmarks.evaluator.plain", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        print(f"the plain script failed:\n{done.stderr[-2000:]}", file=sys.stderr)
    rows = map(json.loads, done.stdout.splitlines())
    return {row["name"]: float(row["ms"]) for row in rows}


def sealed(pool: Pool, instance: Instance, kernel: Kernel) -> EvaluationResult:
    return pool.evaluate(
        EvaluationRequest(instance, kernel.candidate, trials=2, baselines=("eager",), timeout_s=60.0, samples=40)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=len(KERNELS))
    parser.add_argument("--again", type=int, default=20, help="how often one kernel is judged")
    parser.add_argument("--spread", type=float, default=60.0, help="over so many seconds")
    parser.add_argument("--raw", action="store_true", help="also print what the clocks said and where the time went")
    options = parser.parse_args()
    kernels = KERNELS[: options.kernels]
    with Pool("cuda:0", parallel=1) as pool:
        found: dict[str, EvaluationResult] = {}
        for kernel in kernels:
            try:
                result = sealed(pool, pool.prepare(Problem(kernel.name, kernel.problem)), kernel)
            except KernelGroveError as error:
                print(f"{kernel.name} was not judged: {error}", flush=True)
                continue
            found[kernel.name] = result
            if options.raw:
                print(
                    kernel.name,
                    json.dumps(result.detail.get("timing")),
                    json.dumps(result.detail["seconds"]),
                    flush=True,
                )
        reference = plain([kernel.name for kernel in kernels])
        print("| kernel | plain, ms | sealed, ms | sealed ÷ plain | clock, calls × chunks | bound | serial | wall, s |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, result in found.items():
            print(f"| {' | '.join(row(name, result, reference.get(name)))} |", flush=True)
        if options.again:
            again(pool, options.again, options.spread)


def row(name: str, result: EvaluationResult, reference: float | None) -> list[str]:
    if result.time_ms is None:
        return [name, "-", f"{result.outcome}: {result.message[:300]}", "", "", "", "", f"{result.wall_s:.2f}"]
    timing = result.detail["timing"]
    how = f"{timing['clock']}, {timing['calls_a_chunk']} × {timing['chunks']}" if "chunks" in timing else result.timing
    cells = [name, f"{reference:.4f}" if reference else "-", f"{result.time_ms:.4f}"]
    cells += [f"{result.time_ms / reference:.3f}" if reference else "-", str(how), f"{timing['bound_ms']:.4f}"]
    return [*cells, f"{timing['serial_ms']:.4f}" if "serial_ms" in timing else "-", f"{result.wall_s:.2f}"]


def again(pool: Pool, times: int, seconds: float) -> None:
    """The same kernel *times* times over *seconds*: how far the figures lie apart."""
    for name in ("softmax 4096 x 8192", "scale_add 2^24"):
        kernel = next(kernel for kernel in KERNELS if kernel.name == name)
        instance = pool.prepare(Problem(kernel.name, kernel.problem))
        figures, ratios = [], []
        for number in range(times):
            started = time.monotonic()
            found = sealed(pool, instance, kernel)
            assert found.time_ms is not None, found.message
            figures.append(found.time_ms)
            ratios.append(found.speedup["eager"] or 0.0)
            if number + 1 < times:
                time.sleep(max(0.0, seconds / times - (time.monotonic() - started)))
        print(f"\n{name}, judged {times} times over {seconds:.0f} s: {described(figures, 'ms')}")
        print(f"its speedup over eager: {described(ratios, 'x')}", flush=True)


def described(values: list[float], unit: str) -> str:
    middle = statistics.median(values)
    apart, deviation = (100 * width / middle for width in (max(values) - min(values), statistics.stdev(values)))
    return (
        f"median {middle:.5f} {unit}, from {min(values):.5f} to {max(values):.5f}: {apart:.2f} % apart, "
        f"standard deviation {deviation:.2f} %"
    )


if __name__ == "__main__":
    main()
