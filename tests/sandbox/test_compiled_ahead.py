"""What a dry launch finds out before a candidate gets a GPU: what it compiled, and whether the compiler refuses it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from corpus import PROBLEMS, Entry, honest

from kernelgrove.engine.evaluator import sandbox
from kernelgrove.engine.evaluator.workers.ahead import Ahead
from kernelgrove.engine.evaluator.workers.gpu_nurseries import dry_nursery
from kernelgrove.engine.gpus import specs
from kernelgrove.model import EvaluationRequest, Instance
from kernelgrove.problems.problem import load
from kernelgrove.problems.sizes import sized_source

SOURCE = """
import torch
import torch.nn as nn


class Model(nn.Module):
    def forward(self, x):
        return x * 2


def get_inputs():
    return [torch.randn(4096)]


def get_init_inputs():
    return []
"""
KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit
def double(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count)
    {line}
    tl.store(y_ptr + at, x * 2, mask=at < count)


def launch(x):
    y = torch.empty_like(x)
    double[(triton.cdiv(x.numel(), {block}),)](x, y, x.numel(), BLOCK={block}, num_warps=4)
    return y


class ModelNew(torch.nn.Module):
    def forward(self, x):
{forward}
"""
RIGHT = "        return launch(x)"
FALLBACK = "        try:\n            return launch(x)\n        except Exception:\n            return x * 2"
DEPENDS = "        return launch(x) if x.sum().item() > 0 else launch(x)"


@pytest.fixture(scope="module")
def ahead() -> Iterator[Ahead]:
    uid = 65534 if os.geteuid() == 0 else None
    policy = sandbox.Policy(sandbox.default_read_paths(), "", False, uid, 2 << 30, 60, 1 << 30, 1024)
    made = Ahead(dry_nursery(policy, {}), specs.find("H100").facts())
    yield made
    made.close()


def request(line: str = "", block: int = 1024, forward: str = RIGHT) -> EvaluationRequest:
    instance = Instance("double", "ahead", "full", SOURCE, "full", SOURCE, "train")
    return EvaluationRequest(instance, KERNEL.format(line=line, block=block, forward=forward), timeout_s=30.0)


def test_what_compiles_is_kept(ahead: Ahead):
    prepared = ahead.compile(request())
    assert prepared is not None and not prepared.refused
    assert [path.name for path in prepared.folder.rglob("*.cubin")] == ["double.cubin"]
    sandbox.remove(prepared.folder)


def test_a_launch_behind_a_wait_is_compiled_too(ahead: Ahead):
    prepared = ahead.compile(request(forward="        torch.cuda._sleep(1000)\n        return launch(x)"))
    assert prepared is not None and list(prepared.folder.rglob("*.cubin")), prepared
    sandbox.remove(prepared.folder)


@pytest.mark.parametrize(
    ("line", "says"),
    [("x = tl.exponentiate(x)", "exponentiate"), ("tl.static_assert(BLOCK < 8)", "kernel double")],
)
def test_what_the_compiler_refuses_is_refused(ahead: Ahead, line: str, says: str):
    prepared = ahead.compile(request(line))
    assert prepared is not None and prepared.refused and says in prepared.note, prepared
    assert not list(prepared.folder.iterdir())
    sandbox.remove(prepared.folder)


@pytest.mark.parametrize("forward", [FALLBACK, DEPENDS, "        raise RuntimeError('no')"])
def test_what_may_still_run_is_not(ahead: Ahead, forward: str):
    """Code that catches the compiler's error, asks for a tensor's values, or fails by itself: only a GPU can tell."""
    prepared = ahead.compile(request("x = tl.exponentiate(x)" if forward is FALLBACK else "", forward=forward))
    assert prepared is not None and not prepared.refused
    sandbox.remove(prepared.folder)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.path.stem) for entry in honest()])
def test_no_honest_kernel_is_refused(ahead: Ahead, entry: Entry):
    problem = load(str(PROBLEMS / f"{entry.fields['problem']}.py"))
    source = sized_source(problem, None)
    instance = Instance(problem.name, problem.digest, "full", source, "full", source, problem.mode)
    prepared = ahead.compile(EvaluationRequest(instance, entry.code, timeout_s=30.0))
    if prepared is not None:
        sandbox.remove(prepared.folder)
        assert not prepared.refused, prepared.note
