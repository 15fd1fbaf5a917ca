"""What a judge's start waits for."""

from __future__ import annotations

import subprocess
import sys


def test_a_gpus_nurseries_can_be_started_before_the_judge_imports_torch():
    """Both import it at the same time then: seconds of every start."""
    program = (
        "import sys; import kernelgrove.engine.evaluator.judge, kernelgrove.engine.evaluator.workers.gpu_nurseries; "
        "print(sorted({'torch', 'triton', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
