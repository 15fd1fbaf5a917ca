"""How long until a worker is ready for a candidate, and what the sandbox adds to that.

    python -m benchmarks.worker_ready [--device cpu|cuda:0] [--runs 20] [--several-queues]

*forked* is from asking the nursery until the worker reports from inside its sandbox; *ready* also maps the shared
memory, loads a one-line candidate and constructs it on the device (on a GPU that includes CUDA's initialisation).
*frozen* and *thawed* are for three workers that stand still while a fourth would be timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from typing import Any

from kernelgrove.engine.evaluator.wire.arena import CpuArena, CudaArena
from kernelgrove.engine.evaluator.wire.protocol import Reply
from kernelgrove.engine.evaluator.wire.structure import pack
from kernelgrove.engine.evaluator.workers.handle import Order, Worker

CANDIDATE = b"class ModelNew:\n    def __call__(self):\n        return 0\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--several-queues", action="store_true", help="contexts as CUDA makes them by default")
    options = parser.parse_args()
    if options.device == "cpu":
        from kernelgrove.engine.evaluator.cpu_bench import CpuBench
        from kernelgrove.engine.gpus.specs import find

        bench: Any = CpuBench(find("H100").facts(), 1, False)
    else:
        from kernelgrove.engine.evaluator.judge import Judge
        from kernelgrove.engine.gpus.specs import find

        bench = Judge(options.device, "H200", find("H200").facts(), 1, False).bench
        bench.spares.close()  # none is made meanwhile
    standby = bench.interpreting if options.device == "cpu" else bench.nursery

    def fork() -> Worker:
        return standby.fork(options.device, bench.facts, Order(one_queue=not options.several_queues))

    empty = pack([], lambda _: False, [])
    forked, ready, frozen, thawed = [], [], [], []
    try:
        started = time.perf_counter()
        fork().close()
        print(f"first worker, nursery's start included: {time.perf_counter() - started:.2f} s")
        for _ in range(options.runs):
            arena = CpuArena.create(4096) if options.device == "cpu" else CudaArena.create(4096, bench.index)
            started = time.perf_counter()
            with fork() as worker:
                forked.append(1e3 * (time.perf_counter() - started))
                fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
                worker.ask("load", Reply.LOADED, 60.0, fields, [CANDIDATE, empty, arena.fd])
                ready.append(1e3 * (time.perf_counter() - started))
            arena.close()
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(fork()) for _ in range(4)]
            for worker in workers:
                worker.distrust()
            for _ in range(options.runs):
                started = time.perf_counter()
                with standby.frozen(keep=workers[:1]):
                    frozen.append(1e3 * (time.perf_counter() - started))
                    started = time.perf_counter()
                thawed.append(1e3 * (time.perf_counter() - started))
    finally:
        bench.close()
    for name, samples in (("forked", forked), ("ready", ready), ("frozen", frozen), ("thawed", thawed)):
        samples.sort()
        figures = {"median": statistics.median(samples), "min": samples[0], "max": samples[-1]}
        print(name, json.dumps({key: round(value, 1) for key, value in figures.items()}), "ms")


if __name__ == "__main__":
    main()
