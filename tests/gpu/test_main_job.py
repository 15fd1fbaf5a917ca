"""The main job on a real GPU, through the command line: measured figures, a kernel that is right alone, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu


def kernelgrove(*arguments: str, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kernelgrove", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("problem", ["rms_norm", "softmax", "layer_norm"])
def test_a_search_ends_with_a_measured_speedup(tmp_path: Path, problem: str) -> None:
    db = str(tmp_path / "grove.db")
    done = kernelgrove(
        "run", problem, "--model", "rules", "--device", "cuda:0", "--budget-evals", "4", "--db", db, "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    best = document["best"]
    assert best["basis"] == "measured"
    assert best["speedup"]["eager"] > 1 and best["baselines"]["compile"] > 0
    kernel = tmp_path / "best.py"
    assert kernelgrove("best", document["search"], "--db", db, "-o", str(kernel)).returncode == 0
    again = kernelgrove("eval", problem, str(kernel), "--device", "cuda:0", "--json")
    (judged,) = json.loads(again.stdout)
    assert judged["outcome"] == "ok"
    assert judged["time_ms"] == pytest.approx(best["time_ms"], rel=0.25)


def test_killed_and_resumed(tmp_path: Path) -> None:
    db = str(tmp_path / "grove.db")
    command = [sys.executable, "-m", "kernelgrove", "run", "rms_norm", "--model", "rules", "--device", "cuda:0"]
    process = subprocess.Popen(
        [*command, "--budget-evals", "8", "--db", db, "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(12)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = json.loads(kernelgrove("resume", "--db", db, "--device", "cuda:0", "--json").stdout)
    assert resumed["status"] == "finished" and resumed["best"]["basis"] == "measured"


def test_no_process_and_no_gpu_memory_is_left_behind(tmp_path: Path) -> None:
    def used() -> int:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])

    before = used()
    hang = tmp_path / "hang.py"
    hang.write_text(
        "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n"
        "        self.hoard = torch.empty(1 << 32, dtype=torch.uint8, device=x.device)\n"
        "        while True:\n            pass\n"
    )
    done = kernelgrove("eval", "relu", str(hang), "--device", "cuda:0", "--timeout", "3", "--json")
    assert json.loads(done.stdout)[0]["outcome"] == "timeout"
    time.sleep(1)
    assert used() - before < 512, "GPU memory of a killed worker is still held (MiB)"
