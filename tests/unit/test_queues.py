"""Which files get one hardware queue: whatever may make a second stream gets what CUDA gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.workers.queues import one_is_enough

HONEST = Path(__file__).parents[1] / "sandbox" / "honest"


@pytest.mark.parametrize(
    "name", ["online_softmax", "persistent", "split_k", "welford", "padded_view", "integer_kernel"]
)
def test_a_plain_triton_kernel_needs_one(name: str):
    assert one_is_enough((HONEST / f"{name}.py").read_text())


@pytest.mark.parametrize("name", ["joined_stream", "cuda_graph", "torch_compile"])
def test_who_may_have_several_streams_gets_several_queues(name: str):
    assert not one_is_enough((HONEST / f"{name}.py").read_text())


@pytest.mark.parametrize(
    "line",
    [
        "self.side = torch.cuda.Stream()",
        "from torch.cuda import stream as on",
        "graph = torch.cuda.CUDAGraph()",
        "extension = load_inline(name='x', cpp_sources='')",
        "self.f = torch.compile(f)",
        "self.rnn = nn.LSTM(8, 8)",
        "lib = ctypes.CDLL('libcudart.so')",
    ],
)
def test_what_makes_streams(line: str):
    assert not one_is_enough(f"import torch\n\n\nclass ModelNew:\n    def __init__(self):\n        {line}\n")
