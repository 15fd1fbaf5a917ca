"""Dry launches: exact grids and resources for a target that is not there, and messages that say what is wrong.

Compiles for real, in one process a Triton version: the installed one here, Triton 3.6 where the environment variable
KERNELGROVE_TRITON_36 names a folder that holds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from kernelgrove.engine.evaluator.projection import driver
from kernelgrove.engine.evaluator.projection.compiling import CompileFailed, compile_launches
from kernelgrove.engine.gpus import specs

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") == "1", reason="TRITON_INTERPRET=1: this process cannot compile"
)
H100 = specs.find("H100").facts()
SMALL = {**H100, "name": "SMALL", "shared_kb_per_block": 64}  # a chip with as little shared memory as a T4
N = 1_000_000


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "triton"))
    yield


@triton.jit
def scale(x, y, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, tl.sin(tl.load(x + at, mask=at < n)), mask=at < n)


@triton.autotune([triton.Config({"B": 256}, num_warps=8), triton.Config({"B": 512})], key=["n"])
@triton.heuristics({"EVEN": lambda args: args["n"] % args["B"] == 0})
@triton.jit
def tuned(x, y, n, B: tl.constexpr, EVEN: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    if EVEN:
        tl.store(y + at, tl.load(x + at) * 2)
    else:
        tl.store(y + at, tl.load(x + at, mask=at < n) * 2, mask=at < n)


@triton.autotune([triton.Config({"B": 64}), triton.Config({"B": 32})], key=[])
@triton.jit
def product(x, y, z, B: tl.constexpr):
    at = tl.arange(0, B)[:, None] * B + tl.arange(0, B)[None, :]
    acc = tl.zeros((B, B), tl.float32)
    for i in range(0, 10):
        acc += tl.dot(tl.load(x + at + i * B * B), tl.load(y + at + i * B * B))
    tl.store(z + at, acc)


@triton.jit
def helper(value):
    return value.nonsense()


@triton.jit
def wrong(x, B: tl.constexpr):
    at = tl.arange(0, B)
    tl.store(x + at, helper(tl.load(x + at)))


@triton.jit
def uneven(x, B: tl.constexpr):
    tl.store(x + tl.arange(0, B), 0.0)  # a line to be named


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_a_launch_is_compiled_and_not_run() -> None:
    x, y = meta(N), meta(N)

    def forward() -> None:
        scale[(triton.cdiv(N, 1024),)](x, y, N, B=1024)
        torch.relu(y)
        scale[lambda args: (triton.cdiv(N, args["B"]), 2)](x, y, N, B=512, num_warps=8, num_stages=2)

    first, second = compile_launches(forward, H100)
    assert first.name == "scale" and first.grid == (977, 1, 1) and first.constants == {"B": "1024"}
    assert 10 <= first.registers <= 255 and first.shared_bytes == 0 and first.num_warps == 4
    assert first.spills == 0, "the stack of sin's range reduction is no spill"
    assert second.grid == (1954, 2, 1) and (second.num_warps, second.num_stages) == (8, 2)


def test_autotune_takes_the_first_configuration_and_heuristics_hold() -> None:
    x, y = meta(N), meta(N)
    (made,) = compile_launches(lambda: tuned[lambda a: (triton.cdiv(N, a["B"]),)](x, y, N), H100)
    assert made.constants == {"B": "256", "EVEN": "False"} and made.num_warps == 8 and made.grid == (3907, 1, 1)


def test_autotune_skips_a_configuration_that_does_not_fit() -> None:
    x = meta(N)
    (big,) = compile_launches(lambda: product[(1,)](x, x, x), H100)
    assert big.constants == {"B": "64"} and big.shared_bytes > 65536
    (small,) = compile_launches(lambda: product[(1,)](x, x, x), SMALL)
    assert small.constants == {"B": "32"} and 0 < small.shared_bytes <= 65536


def test_too_much_shared_memory_names_the_gpu_and_the_numbers() -> None:
    x = meta(N)
    with pytest.raises(CompileFailed, match=r"needs \d+ bytes of shared memory a block, the SMALL has 65536") as caught:
        compile_launches(lambda: product.fn[(1,)](x, x, x, B=64), SMALL)
    assert caught.value.kernel == "product"


def _line(fragment: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if fragment in line)


def test_a_compile_error_has_the_compilers_words_and_the_line() -> None:
    with pytest.raises(CompileFailed) as caught:
        compile_launches(lambda: uneven[(1,)](meta(N), B=100), H100)
    assert "power of 2" in caught.value.message
    assert f"line {_line('a line to be named')}: " in caught.value.message


def test_an_error_in_a_called_function_shows_that_function() -> None:
    with pytest.raises(CompileFailed) as caught:
        compile_launches(lambda: wrong[(1,)](meta(N), B=64), H100)
    assert "value.nonsense()" in caught.value.message and caught.value.kernel == "wrong"
    assert f"line {_line('helper(tl.load(x + at))')}: " in caught.value.message


def test_a_failure_that_is_not_the_compilers_is_passed_on() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        compile_launches(lambda: meta(3).sum().item(), H100)
    with pytest.raises(ZeroDivisionError):
        compile_launches(lambda: scale[(N // 0,)](meta(N), meta(N), N, B=64), H100)


def test_code_that_recovers_from_a_compile_error_goes_on() -> None:
    x = meta(N)

    def forward() -> None:
        try:
            uneven[(1,)](x, B=100)
        except triton.CompilationError:
            uneven[(1,)](x, B=128)

    assert [made.constants["B"] for made in compile_launches(forward, H100)] == ["128"]


def test_occupancy_code_of_a_candidate_sees_the_target() -> None:
    x, y = meta(N), meta(N)
    seen: list[int] = []

    def forward() -> None:
        properties = triton.runtime.driver.active.utils.get_device_properties(0)
        kernel = scale.warmup(x, y, N, B=512, grid=(1,))
        kernel._init_handles()
        seen.extend([properties["multiprocessor_count"], properties["max_shared_mem"], kernel.n_regs])
        kernel[(properties["multiprocessor_count"], 1, 1)](x, y, N)

    (made,) = compile_launches(forward, H100)
    assert seen[:2] == [132, 227 * 1024] and seen[2] == made.registers and made.grid == (132, 1, 1)


def test_an_empty_grid_launches_nothing_and_the_driver_is_put_back() -> None:
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.driver import driver as active

    before = active._active, Autotuner.run
    assert compile_launches(lambda: scale[(0,)](meta(N), meta(N), N, B=64), H100) == []
    assert (active._active, Autotuner.run) == before and not scale.device_caches


@pytest.mark.parametrize("name", ["T4", "A100", "A10G", "L4", "H100"])
def test_every_architecture_of_the_specs(name: str) -> None:
    (made,) = compile_launches(lambda: scale[(7,)](meta(N), meta(N), N, B=256), specs.find(name).facts())
    assert made.registers > 0


def test_amd_targets_compile_too() -> None:
    facts = {**H100, "name": "MI300X", "backend": "hip", "arch": "gfx942", "shared_kb_per_block": 64}
    assert driver.target(facts).warp_size == 64
    (made,) = compile_launches(lambda: scale[(7,)](meta(N), meta(N), N, B=256), facts)
    assert made.registers > 0


def test_an_interpreting_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        compile_launches(lambda: None, H100)


def test_the_other_triton(tmp_path: Path) -> None:
    folder = os.environ.get("KERNELGROVE_TRITON_36")
    if not folder:
        pytest.skip("KERNELGROVE_TRITON_36 does not name a folder with Triton 3.6")
    if triton.__version__.startswith("3.6"):
        pytest.skip("this is Triton 3.6 already")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "KERNELGROVE_TRITON"))},
        "PYTHONPATH": folder,
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
