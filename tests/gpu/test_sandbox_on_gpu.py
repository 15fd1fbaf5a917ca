"""CUDA, cuDNN and Triton inside the sandbox, and what the GPU's device files must not open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kernelgrove.engine.evaluator.sandbox import Policy, claim_user, clean_environment, default_read_paths, processes_of
from kernelgrove.engine.evaluator.workers.nurseries import import_paths

pytestmark = pytest.mark.gpu
NURSERY = Path(__file__).parents[1] / "sandbox" / "in_the_sandbox.py"
WORKS = {"works_cuda": "256.0 36.0", "works_triton": "True", "works_gcc": "compiled", "works_torch_compile": "True"}
STOPPED = (
    "read_secret",
    "write_to_shm",
    "write_core_pattern",
    "parent_environment",
    "kill_parent",
    "tcp",
    "become_root",
)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu")
    scratch = folder / "scratch"
    scratch.mkdir()
    (folder / "secret").write_text("seed")
    user = claim_user()
    policy = Policy(
        read=default_read_paths(),
        scratch=str(scratch),
        gpu=True,
        uid=user.uid if user else None,
        memory_bytes=32 << 30,
        cpu_s=300,
        file_bytes=1 << 30,
        open_files=1024,
    )
    question = {
        "path": import_paths(),
        "policy": asdict(policy),
        "imports": ["torch", "triton"],
        "facts": {"secret": str(folder / "secret"), "judge": os.getpid()},
        "attempts": [*WORKS, *STOPPED],
    }
    done = subprocess.run(
        [sys.executable, "-P", str(NURSERY), json.dumps(question)],
        env=clean_environment(str(scratch)),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout, done.stderr
    print(done.stderr)
    if user:
        user.release()
    return {**json.loads(done.stdout), **({"uid": user.uid} if user else {})}


@pytest.mark.parametrize("attempt", WORKS)
def test_gpu_work_is_done_inside(answer: dict[str, Any], attempt: str) -> None:
    assert answer["results"][attempt] == WORKS[attempt]


@pytest.mark.parametrize("attempt", STOPPED)
def test_what_is_stopped_stays_stopped_with_a_gpu(answer: dict[str, Any], attempt: str) -> None:
    layers = {layer["name"]: layer for layer in answer["layers"]}
    if not layers["landlock_files"]["active"] or not layers["landlock_signals"]["active"]:
        pytest.skip(f"Landlock is missing here: {layers['landlock_files']['why']}")
    assert answer["results"][attempt].split(":")[0] in ("PermissionError", "OSError")


def test_nothing_outlives_the_worker(answer: dict[str, Any]) -> None:
    """torch.compile starts processes that wait for more work; the nursery's subreaper ends them."""
    assert "uid" not in answer or processes_of(answer["uid"]) == set()


def test_the_gpu_layers_are_reported(answer: dict[str, Any]) -> None:
    layers = {layer["name"]: layer for layer in answer["layers"]}
    assert layers["environment"]["active"] and layers["session"]["active"] and layers["memory_limit"]["active"]
