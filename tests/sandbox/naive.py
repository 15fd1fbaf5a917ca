"""A naive evaluator, to show what the corpus is about: candidate, reference, comparison and clock in one process.

It does what KernelBench's does: five trials from seed 42, the same tensors for both, ``torch.allclose`` at 1e-2, then
the mean of timed calls between CUDA events on the last trial's tensors, and a verdict that the child prints as JSON.
Each candidate gets a process of its own, as an ordinary user where this one is root. Triton's interpreter and the
stand-ins for CUDA take the place of a GPU.

``python naive.py``: a JSON list of ``[name, problem's source, candidate's source]`` on standard input; JSON lines
``[name, verdict]`` on standard output, null where the child gave none.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import types
from pathlib import Path

TRIALS, WARM, TIMED, TOLERANCE, LIMIT_S = 5, 2, 5, 1e-2, 20


def judge(problem: str, code: str) -> dict[str, object]:
    """KernelBench's way in short; whatever goes wrong is the candidate's fault."""
    import torch

    reference = load("reference", problem)
    try:
        candidate = load("candidate", code)
        init = reference.get_init_inputs()
        torch.manual_seed(42)
        model = reference.Model(*init)
        torch.manual_seed(42)
        new = candidate.ModelNew(*init)
        if getattr(reference, "MODE", "") == "eval":
            model.eval(), new.eval()
        correct = True
        with torch.no_grad():
            for trial in range(TRIALS):
                torch.manual_seed(42 + trial)
                inputs = reference.get_inputs()
                output = model(*inputs)
                output_new = new(*inputs)
                correct = correct and same(output, output_new)
            times = [timed(new, inputs) for _ in range(WARM + TIMED)][WARM:]
        return {"compiled": True, "correctness": bool(correct), "runtime": sum(times) / len(times)}
    except Exception as error:
        return {"compiled": False, "correctness": False, "error": f"{type(error).__name__}: {error}"}


def timed(model, inputs) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    model(*inputs)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def same(output, output_new) -> bool:
    import torch

    if isinstance(output, dict):
        return all(same(output[key], output_new[key]) for key in output)
    if isinstance(output, (list, tuple)):
        return len(output) == len(output_new) and all(same(a, b) for a, b in zip(output, output_new, strict=True))
    if not isinstance(output, torch.Tensor):
        return True
    return output.shape == output_new.shape and torch.allclose(output, output_new, atol=TOLERANCE, rtol=TOLERANCE)


def load(name: str, source: str) -> types.ModuleType:
    path = Path(f"{name}.py").resolve()
    path.write_text(source, encoding="utf-8")
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def prepare() -> None:
    """Triton's interpreter and the stand-ins for CUDA, once for all children."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch
    import torch.fx.experimental.symbolic_shapes  # what a child may not be able to read any more

    from kernelgrove.engine.evaluator.interpreter import devices
    from kernelgrove.engine.evaluator.interpreter.adapter import install
    from kernelgrove.engine.gpus import specs

    torch.set_num_threads(1)
    install()
    devices.pretend(specs.find("H100").facts(), "cpu")
    gc.collect()
    gc.freeze()


def in_a_child(problem: str, code: str) -> object:
    """The last JSON object that a child prints, as the parent of a naive evaluator reads it."""
    with tempfile.TemporaryDirectory(prefix="naive-") as folder:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.dup2(writing, 1)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                Path(folder).chmod(0o777)
                os.chdir(folder)
                if os.geteuid() == 0:
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                signal.alarm(LIMIT_S)
                print(json.dumps(judge(problem, code)), flush=True)
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, errors="replace") as pipe:
            lines = pipe.read().splitlines()
        os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


def main() -> None:
    asked = json.load(sys.stdin)
    prepare()
    for name, problem, code in asked:
        print(json.dumps([name, in_a_child(problem, code)]), flush=True)


if __name__ == "__main__":
    main()
