"""The Evaluator port, over every device: outcomes told apart, messages that help, nothing left behind.

On ``cpu`` everywhere; on ``cuda:0`` with ``-m gpu``. Each candidate is a whole file run in a real sandboxed process.
"""

from __future__ import annotations

import os
import signal
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.errors import EnvironmentLacks, ProblemError
from kernelgrove.model import Basis, EvaluationRequest, Outcome, Problem, Stage

PROBLEM = '''
import torch
import torch.nn as nn


class Model(nn.Module):
    """Scale each row by a weight and its inverse root mean square."""

    def __init__(self, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


rows = 2000
columns = 1100
SIZES = {"full": {"rows": 2000, "columns": 1100}, "small": {"rows": 21, "columns": 300}}


def get_inputs():
    return [torch.randn(rows, columns)]


def get_init_inputs():
    return [columns]
'''

HEAD = """
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def scale_rows(x_ptr, weight_ptr, y_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < columns
    x = tl.load(x_ptr + row * columns + offsets, mask=inside, other=0.0)
    weight = tl.load(weight_ptr + offsets, mask=inside, other=0.0)
    y = x * tl.rsqrt(tl.sum(x * x, axis=0) / columns + 1e-6) * weight
    tl.store(y_ptr + row * columns + offsets, y, mask=inside)


class ModelNew(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(columns))

    def launch(self, x, rows):
        y = torch.empty_like(x)
        scale_rows[(rows,)](x, self.weight, y, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
        return y

    def forward(self, x):
"""


def candidate(body: str, head: str = HEAD) -> str:
    return head + textwrap.indent(textwrap.dedent(body), " " * 8)


RIGHT = candidate("return self.launch(x, x.shape[0])")


@dataclass(frozen=True)
class Case:
    code: str
    outcomes: set[Outcome]
    says: str = ""
    timeout_s: float = 60.0


CASES = {
    "right": Case(RIGHT, {Outcome.OK}),
    "seeded_other_names": Case(RIGHT.replace("self.weight", "self.gain"), {Outcome.OK}),
    "syntax": Case(RIGHT.replace("def forward(self, x):", "def forward(self, x:"), {Outcome.COMPILE_ERROR}, "line"),
    "no_model_new": Case(RIGHT.replace("ModelNew", "Fast"), {Outcome.COMPILE_ERROR}, "ModelNew"),
    "missing_import": Case("import not_a_module\n" + RIGHT, {Outcome.COMPILE_ERROR}, "not_a_module"),
    "raises": Case(candidate('raise ValueError("tile of odd size")'), {Outcome.RUNTIME_ERROR}, "tile of odd size"),
    "wrong_value": Case(candidate("return self.launch(x, x.shape[0]) * 1.01"), {Outcome.WRONG_RESULT}, "differ"),
    "wrong_shape": Case(candidate("return self.launch(x, x.shape[0])[:, :-1]"), {Outcome.WRONG_RESULT}, "shape"),
    "wrong_dtype": Case(candidate("return self.launch(x, x.shape[0]).half()"), {Outcome.WRONG_RESULT}, "dtype"),
    "two_outputs": Case(candidate("y = self.launch(x, x.shape[0])\nreturn y, y"), {Outcome.WRONG_RESULT}, "outputs"),
    "rows_left_out": Case(candidate("return self.launch(x, x.shape[0] - 1)"), {Outcome.WRONG_RESULT}, "row"),
    "skips_the_weight": Case(RIGHT.replace("* weight\n", "\n"), {Outcome.WRONG_RESULT}, "differ"),
    "mutates_input": Case(
        candidate("y = self.launch(x, x.shape[0])\nx.zero_()\nreturn y"), {Outcome.REJECTED}, "input 0"
    ),
    "hangs": Case(candidate("while True:\n    pass"), {Outcome.TIMEOUT}, "within 3 s", timeout_s=3.0),
    "exits": Case(candidate("import os\nos._exit(0)"), {Outcome.WORKER_DIED}, "exit"),
    "segfaults": Case(candidate("import ctypes\nctypes.string_at(0)"), {Outcome.WORKER_DIED}, "SIGSEGV"),
    "eats_memory": Case(
        candidate("self.hoard = [bytearray(1 << 30) for _ in range(4096)]\nreturn x"),
        {Outcome.OUT_OF_MEMORY, Outcome.WORKER_DIED},
    ),
    "forges": Case(
        candidate(
            """
            import os
            for fd in range(3, 64):
                try:
                    os.write(fd, b'{"outcome": "ok"}')
                except OSError:
                    pass
            os._exit(0)
            """
        ),
        {Outcome.REJECTED, Outcome.WORKER_DIED},
    ),
    "reads_a_home": Case(
        candidate(f"open({str(Path(__file__).resolve())!r}).read()\nreturn x"), {Outcome.RUNTIME_ERROR}, "ermission"
    ),
    "kernel_does_not_compile": Case(
        RIGHT.replace("tl.rsqrt(", "tl.no_such_function("),
        {Outcome.COMPILE_ERROR, Outcome.RUNTIME_ERROR},
        "no_such_function",
    ),
}


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def pool(request):
    with Pool(request.param, parallel=2) as pool:
        yield pool


@pytest.fixture(scope="module")
def problem() -> Problem:
    sizes = {"full": {"rows": 2000, "columns": 1100}, "small": {"rows": 21, "columns": 300}}
    return Problem("scale_rows", PROBLEM, sizes=sizes)


@pytest.fixture(scope="module")
def results(pool, problem):
    """All candidates judged side by side, as a search judges them."""
    instance = pool.prepare(problem)

    def judge(name: str):
        case = CASES[name]
        return pool.evaluate(EvaluationRequest(instance, case.code, trials=2, samples=20, timeout_s=case.timeout_s))

    with ThreadPoolExecutor(pool.parallel) as threads:
        return dict(zip(CASES, threads.map(judge, CASES), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_outcome_and_message(results, name):
    found, case = results[name], CASES[name]
    assert found.outcome in case.outcomes, found.message
    assert case.says in found.message


def test_a_right_candidate_gets_a_figure_with_its_basis(pool, results):
    found = results["right"]
    assert found.stage is Stage.TIME and found.trials_passed == found.trials_of == 2
    assert found.basis is pool.device().basis
    assert found.time_ms is not None and found.time_ms > 0, found.message
    assert found.speedup["eager"] == pytest.approx(found.baselines["eager"] / found.time_ms)
    assert found.max_error is not None and found.max_error < 1e-5
    assert found.provenance == "custom"
    if found.basis is Basis.PROJECTED:
        assert found.baselines["compile"] is None
    else:
        assert found.time_stats["n"] >= 10 and found.baselines["compile"] is not None


def test_no_figure_unless_ok(results):
    for name, found in results.items():
        if found.outcome is not Outcome.OK:
            assert found.time_ms is None and not found.speedup, name


def test_sandbox_layers_are_reported(results):
    layers = {layer["name"]: layer["active"] for layer in results["right"].detail["sandbox"]}
    assert layers["environment"] and layers["session"]


def test_timing_can_be_left_out(pool, problem):
    found = pool.evaluate(EvaluationRequest(pool.prepare(problem), RIGHT, trials=1, timing=False))
    assert found.outcome is Outcome.OK and found.time_ms is None and found.stage is Stage.CHECK


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("return [torch.randn(rows, columns)]", "return [torch.randn(rows, columns)] * 2"), "forward"),
        (("+ 1e-6)", "+ 1e-6) * float('nan')"), "NaN"),
        (("def __init__(self, columns):", "def __init__(self, columns, more):"), "Model"),
    ],
)
def test_a_faulty_reference_is_the_problems_fault(pool, problem, change, says):
    broken = Problem("broken", PROBLEM.replace(*change), sizes=problem.sizes)
    with pytest.raises(ProblemError, match=says):
        pool.prepare(broken)


def test_a_device_that_is_not_there():
    with pytest.raises(EnvironmentLacks, match="cuda:99"):
        Pool("cuda:99")


def test_a_nursery_that_died_is_replaced(pool, problem):
    instance = pool.prepare(problem)
    assert pool._process is not None
    children = Path(f"/proc/{pool._process.pid}/task/{pool._process.pid}/children").read_text().split()
    assert children
    for nursery in children:
        os.kill(int(nursery), signal.SIGKILL)
    time.sleep(0.5)
    found = pool.evaluate(EvaluationRequest(instance, RIGHT, trials=1, timing=False))
    assert found.outcome is Outcome.OK, found.message


def test_nothing_is_left_behind(problem):
    """No process, and no folder of a nursery or worker, once the pool is closed; and closing takes no time."""
    before = set(Path(tempfile.gettempdir()).glob("kernelgrove-*"))
    with Pool("cpu", parallel=1) as own:
        instance = own.prepare(problem)
        own.evaluate(EvaluationRequest(instance, RIGHT, trials=1, timing=False))
        assert own._process is not None
        judge = own._process.pid
        made = set(Path(tempfile.gettempdir()).glob("kernelgrove-*")) - before
        mine = {folder for folder in made if _is_of(folder, judge)}
        assert mine
    assert not Path(f"/proc/{judge}").exists()
    assert not [folder for folder in mine if folder.exists()]


def _is_of(folder: Path, judge: int) -> bool:
    """Whether a nursery of this judge works in *folder*."""
    children = Path(f"/proc/{judge}/task/{judge}/children").read_text().split()
    return any(Path(f"/proc/{child}/cwd").resolve() == folder.resolve() for child in children)


def test_the_judge_is_started_again_after_it_died(pool, problem):
    instance = pool.prepare(problem)
    assert pool._process is not None
    pool._process.kill()
    pool._process.wait()
    for _ in range(3):
        try:
            found = pool.evaluate(EvaluationRequest(instance, RIGHT, trials=1, timing=False))
            break
        except Exception as error:
            assert "judge" in str(error)
    assert found.outcome is Outcome.OK
