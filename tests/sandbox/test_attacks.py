"""Attacks on the evaluator itself that are no single candidate file: on what the judge parses, copies and removes, and
by several candidates together."""

from __future__ import annotations

import ast
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from corpus import PROBLEMS, honest

from kernelgrove.engine.evaluator import sandbox
from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.timing import figures
from kernelgrove.engine.evaluator.workers.ahead import Ahead
from kernelgrove.engine.evaluator.workers.gpu_nurseries import dry_nursery
from kernelgrove.engine.gpus import specs
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Outcome
from kernelgrove.problems.problem import load

ROOT = os.geteuid() == 0
HONEST = next(entry.code for entry in honest() if entry.path.stem == "split_sum_atomic")
MODEL = """
class ModelNew(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x).sum(dim=1)
"""


@pytest.fixture(scope="module")
def instance(pool: Pool, device: str) -> Instance:
    if device != "cpu":
        pytest.skip("nothing here hangs on the device")
    return pool.prepare(load(str(PROBLEMS / "row_sum.py")))


def judge(pool: Pool, instance: Instance, code: str, trials: int = 3) -> EvaluationResult:
    return pool.evaluate(EvaluationRequest(instance, code, trials=trials, timing=False, timeout_s=20.0))


# ---------------------------------------------------------------------------------------- what the judge has to parse

BOMBS = {
    "nested parentheses": "(" * 100_000,
    "nested operators": "x = " + "-" * 100_000 + "1",
    "long chain": "x" + ".x" * 60_000,
    "long sum": "+".join(["x"] * 60_000),
    "nested lambdas": "lambda:" * 30_000 + "0",
    "nested f-strings": 'f"{' * 150 + "1" + '}"' * 150,
    "deep blocks": "".join(" " * depth + "if 1:\n" for depth in range(300)),
    "long integer": "x = " + "9" * 200_000,
    "NUL": "x = 1\0",
    "lone surrogate": "x = '\ud800'",
    "other encoding": "# -*- coding: utf-16 -*-\nx = 1\n",
    "quadratic": "def f(a, b):\n  return a + b\n" * 8_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_text_that_breaks_parsers_is_a_compile_error(pool: Pool, instance: Instance, name: str) -> None:
    started = time.monotonic()
    found = judge(pool, instance, BOMBS[name])
    assert found.outcome in (Outcome.COMPILE_ERROR, Outcome.TIMEOUT), found.message
    assert time.monotonic() - started < 15
    found.message.encode()
    assert len(found.message) < 7000


def test_a_file_without_end_is_refused_at_once(pool: Pool, instance: Instance) -> None:
    """5 MB of small functions take CPython's compiler five minutes, in which nobody else in the process moves."""
    started = time.monotonic()
    found = judge(pool, instance, "def f(a, b):\n  return a + b\n" * 200_000)
    assert found.outcome is Outcome.COMPILE_ERROR and time.monotonic() - started < 5
    assert judge(pool, instance, HONEST).outcome is Outcome.OK


# ------------------------------------------------------------------------------------ what the judge copies and removes


@pytest.fixture
def canary() -> Iterator[Path]:
    """A folder that no worker may read, in which nothing may change."""
    folder = Path(tempfile.mkdtemp())
    (folder / "key").write_text("sk-canary")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["key"] and (folder / "key").read_text() == "sk-canary"
    (folder / "key").unlink()
    folder.rmdir()


def test_removing_a_scratch_folder_follows_no_link(pool: Pool, instance: Instance, canary: Path) -> None:
    code = f"""
import os, shutil
import torch

os.symlink({str(canary)!r}, "link")
os.makedirs("a/b")
os.symlink({str(canary)!r}, "a/b/link")
os.symlink({str(canary / "key")!r}, "file")
shutil.rmtree(os.environ.get("TRITON_CACHE_DIR", "triton"), ignore_errors=True)
os.symlink({str(canary)!r}, os.environ.get("TRITON_CACHE_DIR", "triton"))
"""
    assert judge(pool, instance, code + MODEL).outcome is Outcome.OK
    assert judge(pool, instance, HONEST).outcome is Outcome.OK


@pytest.fixture(scope="module")
def ahead() -> Iterator[Ahead]:
    uid = 65534 if ROOT else None
    policy = sandbox.Policy(sandbox.default_read_paths(), "", False, uid, 2 << 30, 60, 1 << 30, 1024)
    made = Ahead(dry_nursery(policy, {}), specs.find("H100").facts())
    yield made
    made.close()


LINKED = """
import os, shutil
import torch

for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
    cache = os.environ[name]
    shutil.rmtree(cache, ignore_errors=True)
    {make}
"""


@pytest.mark.parametrize(
    "make",
    [
        pytest.param("os.symlink({canary!r}, cache)", id="top"),
        pytest.param("os.makedirs(cache); os.symlink({canary!r}, cache + '/inner')", id="inner"),
        pytest.param("os.makedirs(cache); os.symlink({canary!r} + '/key', cache + '/key')", id="file"),
    ],
)
def test_compiling_ahead_copies_nothing_of_the_hosts(ahead: Ahead, instance: Instance, canary: Path, make: str) -> None:
    code = LINKED.format(make=make.format(canary=str(canary))) + MODEL
    prepared = ahead.compile(EvaluationRequest(instance, code))
    copied = prepared.folder.rglob("*") if prepared is not None else ()
    assert not [path for path in copied if path.is_file() and "canary" in path.read_text(errors="replace")]


def test_compiling_ahead_survives_deep_folders(ahead: Ahead, instance: Instance) -> None:
    make = "os.makedirs(cache); os.chdir(cache); [(os.mkdir('d'), os.chdir('d')) for _ in range(1500)]"
    ahead.compile(EvaluationRequest(instance, LINKED.format(make=make) + MODEL))
    assert ahead.compile(EvaluationRequest(instance, HONEST)) is not None


# ------------------------------------------------------------------------------------------------ several candidates

SPY = """
import torch

SEEN = []


class ModelNew(torch.nn.Module):
    def forward(self, x):
        SEEN.append((torch.initial_seed(), float(x[0, 0])))
        if len(SEEN) == {last}:
            raise RuntimeError("SEEN " + repr(SEEN))
        return torch.tanh(x).sum(dim=1)
"""
TABLE = """
import torch

TABLE = {table!r}


class ModelNew(torch.nn.Module):
    def forward(self, x):
        answer = TABLE.get(float(x[0, 0]))
        if answer is None:
            return torch.zeros(x.shape[0], device=x.device)
        return torch.tensor(answer, device=x.device) + 0.0
"""


def test_what_one_candidate_tells_does_not_help_the_next(pool: Pool, instance: Instance) -> None:
    """The first reports seeds and inputs in its error; whoever reads that works the answers out and writes them into
    the second. A trial on inputs that nobody has seen stops it, if not sooner."""
    trials = 3
    told = judge(pool, instance, SPY.format(last=trials), trials)
    found = re.search(r"SEEN (\[.*?\])", told.message)
    assert found is not None
    table = {}
    for seed, first in ast.literal_eval(found[1]):
        for high in (0, 1 << 31):
            torch.manual_seed(seed | high)
            x = torch.randn(7, 130)
            if float(x[0, 0]) == first:
                table[first] = torch.tanh(x).sum(dim=1).tolist()
    answered = judge(pool, instance, TABLE.format(table=table), trials)
    assert answered.outcome is Outcome.WRONG_RESULT, f"{len(table)} of {trials} answers were known"


def test_answers_dribbled_out_through_messages_are_stale(pool: Pool, instance: Instance) -> None:
    """A verdict says what one element should have been. Collected over many tries they must not add up to a pass."""
    table: dict[float, list[float]] = {}
    for _ in range(5):
        spied = judge(pool, instance, SPY.format(last=1), 1)
        first = ast.literal_eval(re.search(r"SEEN (\[.*?\])", spied.message)[1])[0][1]  # type: ignore[index]
        code = TABLE.format(table=table).replace("torch.zeros(x.shape[0]", "torch.full((x.shape[0],), 1e30")
        found = judge(pool, instance, code, 1)
        assert found.outcome is Outcome.WRONG_RESULT
        expected = re.search(r"expected (-?[\d.e+-]+)", found.message)
        table.setdefault(first, []).append(float(expected[1]) if expected else 0.0)
    assert judge(pool, instance, TABLE.format(table=table), 1).outcome is Outcome.WRONG_RESULT


# --------------------------------------------------------------------------------------------- figures made of claims

SKEWED = tuple([1e-4] * 80 + [50.0] * 20)


def test_skewed_claims_do_not_lower_a_sealed_figure() -> None:
    """Claims whose middle half is nothing and whose mean is huge, of calls that took 0.3 ms by the judge's clock."""
    chunks = [figures.Chunk(SKEWED, wall_ms=100 * 0.3 + 0.5, empty_ms=0.5) for _ in range(6)]
    assert figures.sealed(chunks).time_ms >= 0.9 * 0.3


def test_skewed_claims_do_not_lower_a_screened_figure() -> None:
    rounds = [figures.Round(SKEWED, wall_ms=100 * (0.3 + 0.1)) for _ in range(4)]
    assert figures.figure(rounds, around_ms=0.1).time_ms >= 0.9 * 0.3


@pytest.mark.parametrize("claim", [1e-4, 0.15, 0.26])
def test_claims_out_of_reach_earn_what_the_clock_saw(claim: float) -> None:
    chunks = [figures.Chunk((claim,) * 64, wall_ms=64 * 0.3 + 0.5, empty_ms=0.5) for _ in range(6)]
    assert figures.sealed(chunks).time_ms >= 0.9 * 0.3
    rounds = [figures.Round((claim,) * 64, wall_ms=64 * (0.3 + 0.1)) for _ in range(4)]
    assert figures.figure(rounds, around_ms=0.1).time_ms >= 0.3 * 0.95 - 0.010
