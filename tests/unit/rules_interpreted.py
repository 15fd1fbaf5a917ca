"""Run programs of the rules in Triton's interpreter against their references: a script, since TRITON_INTERPRET has to
be set before Triton is imported, and one process for many programs, since importing takes seconds.

Reads a JSON list of {name, source, code, mode} on standard input and writes a list of [name, error or null]. The rule
is the judge's: error against fp64, relative to the row's maximum, at most four times PyTorch's own or
2 eps + eps sqrt(K). The first program of each reference also runs on inputs scaled by 1e-3 and on non-contiguous ones.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
warnings.simplefilter("ignore")

import torch  # noqa: E402

from kernelgrove.engine.evaluator.interpreter import install, pretend  # noqa: E402
from kernelgrove.engine.gpus.specs import find  # noqa: E402

EPS = 2.0**-23
#: The longest reduction in the texts and in the library's small sizes, rounded up.
K = 4096


def load(text: str, folder: Path, name: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def outputs(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else list(value)


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    if got.shape != exact.shape:
        return math.inf
    if not exact.is_floating_point():
        return 0.0 if torch.equal(got, exact) else math.inf
    wide = exact.dim() > 0 and exact.shape[-1] >= 32
    scale = exact.abs().amax(-1, keepdim=True) if wide else exact.abs().amax()
    scale = torch.where(scale > 0, scale, exact.abs().amax()).clamp_min(1e-30)
    worst = ((got.double() - exact).abs() / scale).max().item()
    return worst if math.isfinite(worst) else math.inf


def copies(values: list[Any]) -> list[Any]:
    return [v.clone(memory_format=torch.preserve_format) if isinstance(v, torch.Tensor) else v for v in values]


def variants(inputs: list[Any]) -> list[list[Any]]:
    """As given; small; laid out column by column."""
    small = [v * 1e-3 if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs]
    turned = [v.t().contiguous().t() if isinstance(v, torch.Tensor) and v.dim() == 2 else v for v in inputs]
    return [inputs, small, turned]


class Expected:
    """A reference's weights, inputs and results, in fp32 and fp64."""

    def __init__(self, source: str, mode: str, folder: Path, name: str) -> None:
        self.module = load(source, folder, name)
        self.mode = mode
        torch.manual_seed(0)
        model = self.make(self.module.Model)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.4, 0.5)
        self.state = {key: value.clone() for key, value in model.state_dict().items()}
        torch.manual_seed(1)
        self.cases = variants(self.module.get_inputs())
        self.checked = 0
        self.plain = [self.run(self.module.Model, case, torch.float32) for case in self.cases]
        self.exact = [self.run(self.module.Model, case, torch.float64) for case in self.cases]

    def make(self, kind: type[torch.nn.Module]) -> torch.nn.Module:
        model = kind(*self.module.get_init_inputs())
        return model.eval() if self.mode == "eval" else model

    def run(self, kind: type[torch.nn.Module], case: list[Any], dtype: torch.dtype) -> list[torch.Tensor]:
        model = self.make(kind)
        model.load_state_dict(self.state)
        inputs = [v.to(dtype) if isinstance(v, torch.Tensor) and v.dtype == torch.float32 else v for v in copies(case)]
        inputs = [v.cuda() if isinstance(v, torch.Tensor) else v for v in inputs]
        with torch.no_grad():
            return [value.cpu().clone() for value in outputs(model.to(dtype).cuda()(*inputs))]

    def check(self, kind: type[torch.nn.Module]) -> str | None:
        cases = list(zip(self.cases, self.plain, self.exact, strict=True))
        self.checked += 1
        for number, (case, plain, exact) in enumerate(cases if self.checked == 1 else cases[:1]):
            if not all(torch.isfinite(value).all() for value in exact if value.is_floating_point()):
                continue
            got = self.run(kind, case, torch.float32)
            if [(v.shape, v.dtype) for v in got] != [(v.shape, v.dtype) for v in plain]:
                return f"case {number}: {[(v.shape, v.dtype) for v in got]}"
            for mine, torchs, true in zip(got, plain, exact, strict=True):
                allowed = max(4 * error(torchs, true), 2 * EPS + EPS * math.sqrt(K))
                if (worst := error(mine, true)) > allowed:
                    return f"case {number}: error {worst:.2e}, allowed {allowed:.2e}"
        return None


def main() -> None:
    torch.set_num_threads(1)
    install()  # as in the evaluator: pointers are checked, and Triton 3.6 works beside numpy 2.4
    pretend(find("H100").facts(), "cpu")
    known: dict[tuple[str, str], Expected] = {}
    results: list[tuple[str, str | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, job in enumerate(json.load(sys.stdin)):
            key = (job["source"], job["mode"])
            if key not in known:
                known[key] = Expected(*key, Path(folder), f"reference_{number}")
            try:
                found = known[key].check(load(job["code"], Path(folder), f"program_{number}").ModelNew)
            except Exception as failure:
                found = f"{type(failure).__name__}: {failure}"
            results.append((job["name"], found))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
