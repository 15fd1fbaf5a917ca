"""Times by CUDA events in a plain script, with nothing of the evaluator in it.

    python -m benchmarks.evaluator.plain NAME...

Inputs rotate over as many sets as fit 8 GiB, so that large ones are not in L2 when their turn comes; a spinning kernel
first lets the host queue ahead, so that launches are not what is timed. Prints one JSON object a kernel: the median,
in ms.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from .kernels import KERNELS

_MEMORY = 8 << 30
_QUEUED = 100
_LEAST_MS, _LEAST_ROUNDS, _MOST_ROUNDS = 60.0, 3, 40


def load(text: str, name: str) -> Any:
    """*text* as a module of its own, from a file: Triton reads a kernel's source again."""
    path = Path(tempfile.mkdtemp(), f"{name}.py")
    path.write_text(text)
    module = types.ModuleType(name)
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def time_one(name: str) -> dict[str, Any]:
    import torch

    kernel = next(kernel for kernel in KERNELS if kernel.name == name)
    problem, candidate = load(kernel.problem, "problem"), load(kernel.candidate, "candidate")
    model = candidate.ModelNew()
    with torch.device("cuda"), torch.no_grad():
        first = problem.get_inputs()
        size = sum(t.numel() * t.element_size() for t in [*first, model(*first)])
        sets = [first, *(problem.get_inputs() for _ in range(max(1, min(_QUEUED, _MEMORY // size) - 1)))]
        for inputs in sets[:3]:
            model(*inputs)
        torch.cuda.synchronize()
        samples: list[float] = []
        for number in range(_MOST_ROUNDS):
            pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in sets]
            torch.cuda._sleep(20_000_000)  # about 10 ms
            for inputs, (start, end) in zip(sets, pairs, strict=True):
                start.record()
                model(*inputs)
                end.record()
            torch.cuda.synchronize()
            if number:  # the first round warms up
                samples += [start.elapsed_time(end) for start, end in pairs]
            if number >= _LEAST_ROUNDS and sum(samples) > _LEAST_MS:
                break
    return {"name": name, "ms": statistics.median(samples), "n": len(samples)}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(time_one(name)), flush=True)
