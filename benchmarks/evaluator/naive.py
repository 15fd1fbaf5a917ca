"""What the field does: a process a candidate, five trials, a hundred timings by CUDA events, eager PyTorch timed again.

    python -m benchmarks.evaluator.naive PROBLEM.py CANDIDATE.py

Written after KernelBench's published description, to have its rate on the same candidates in the same run. It has
none of the evaluator's defences. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .plain import load


def judge(problem_text: str, candidate_text: str) -> dict[str, Any]:
    import torch

    problem = load(problem_text, "problem")
    try:
        candidate = load(candidate_text, "candidate")
        torch.manual_seed(42)
        new = candidate.ModelNew(*problem.get_init_inputs()).cuda()
    except Exception as error:
        return {"outcome": "compile_error", "message": f"{type(error).__name__}: {error}"[:200]}
    torch.manual_seed(42)
    old = problem.Model(*problem.get_init_inputs()).cuda()
    with torch.no_grad():
        for trial in range(5):
            torch.manual_seed(trial)
            inputs = [x.cuda() if isinstance(x, torch.Tensor) else x for x in problem.get_inputs()]
            expected = old(*inputs)
            try:
                found = new(*inputs)
                torch.cuda.synchronize()
            except Exception as error:
                return {"outcome": "runtime_error", "message": f"{type(error).__name__}: {error}"[:200]}
            if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-4, rtol=1e-4):
                return {"outcome": "wrong_result", "message": f"trial {trial}"}
        return {"outcome": "ok", "ms": _time(new, inputs), "eager_ms": _time(old, inputs)}


def _time(model: Any, inputs: list[Any]) -> float:
    import torch

    for _ in range(3):
        model(*inputs)
    torch.cuda.synchronize()
    times = []
    for _ in range(100):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        model(*inputs)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sum(times) / len(times)


if __name__ == "__main__":
    print(json.dumps(judge(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text())))
