"""What the judge's PyTorch keeps of the device's memory is little, and known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernelgrove.engine.evaluator import cuda_bench
from kernelgrove.engine.evaluator.checking.memory import available
from kernelgrove.engine.evaluator.cuda_bench import CudaBench
from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.sittings.sitting import Rejected
from kernelgrove.engine.evaluator.timing.baselines import Eager
from kernelgrove.engine.evaluator.timing.memory import trim
from kernelgrove.engine.evaluator.timing.pending import Held, Pending
from kernelgrove.engine.evaluator.timing.seats import NoRoom, Overestimated
from kernelgrove.engine.evaluator.workers.handle import WorkerFailed

GIB = 1 << 30


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU of 128 GiB, as PyTorch tells of it."""
    told = SimpleNamespace(free=40 * GIB, reserved=32 * GIB, allocated=10 * GIB, between=2 * GIB, emptied=0)

    def empty() -> None:
        told.emptied += 1

    def stats(device: int) -> dict[str, int]:
        told_of = {"reserved": told.reserved, "allocated": told.allocated, "inactive_split": told.between}
        return {f"{name}_bytes.all.current": size for name, size in told_of.items()}

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (told.free, 128 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_stats", stats)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=128 * GIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    return told


def test_what_is_kept_of_freed_tensors_is_available_but_for_what_lies_between_others(
    device: SimpleNamespace,
):
    assert available(0) == 60 * GIB


@pytest.mark.parametrize("fails", [1, 2])
def test_where_memory_is_short_nothing_waits_to_be_compared_at_the_second_try(
    device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, fails: int
):
    tries: list[tuple[int, int, int]] = []

    class Seat:
        def __init__(self, sitting: object, empties: object, pending: Pending, *rest: Any, call_ms: object) -> None:
            _estimate_ms, memory, _limit_s, besides = rest
            tries.append((memory, besides, pending.left))
            if len(tries) <= fails:
                raise NoRoom

        def __enter__(self) -> Seat:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(cuda_bench, "Seat", Seat)
    monkeypatch.setattr(cuda_bench, "confirm", lambda *_, anew: "found")
    bench = CudaBench.__new__(CudaBench)
    bench.index, held = 0, Held(8 * GIB)
    bench.timing = SimpleNamespace(held=held, empties=None)  # type: ignore[assignment]
    bench.exclusive = SimpleNamespace(quiet=None)  # type: ignore[assignment]
    base = Eager.__new__(Eager)
    base.seat = SimpleNamespace(to_come=3 * GIB)  # type: ignore[assignment]
    forgotten: list[bool] = []
    sitting: Any = SimpleNamespace(reference=SimpleNamespace(forget=lambda: forgotten.append(True)))
    request: Any = SimpleNamespace(timeout_s=30.0, tolerance=None)
    assert held.take(2 * GIB) and held.left == 6 * GIB
    pending = Pending(held)
    if fails == 2:
        with pytest.raises(WorkerFailed, match="leaves no memory"):
            bench._confirm(sitting, 1.0, base, pending, request)
    else:
        assert bench._confirm(sitting, 1.0, base, pending, request) == "found"  # type: ignore[comparison-overlap]
    assert tries == [(60 * GIB, 3 * GIB, 6 * GIB), (60 * GIB, 3 * GIB, 0)] and device.emptied == len(forgotten) == fails
    compared: list[bool] = []
    pending.add(lambda: compared.append(True), 1)
    assert compared, "at once"


def test_who_is_overestimated_again_and_again_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    """The third seat would be one that nobody looks at."""
    made: list[object] = []

    class Seat:
        def __init__(self, *_: object, call_ms: object) -> None:
            made.append(call_ms)

        def __enter__(self) -> Seat:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def confirm(*_: object, anew: bool) -> None:
        assert anew
        raise Overestimated(4.0 ** -len(made))

    monkeypatch.setattr(cuda_bench, "Seat", Seat)
    monkeypatch.setattr(cuda_bench, "confirm", confirm)
    monkeypatch.setattr(cuda_bench, "available", lambda _: 40 * GIB)
    bench = CudaBench.__new__(CudaBench)
    bench.index, held = 0, Held(8 * GIB)
    bench.timing = SimpleNamespace(held=held, empties=None)  # type: ignore[assignment]
    bench.exclusive = SimpleNamespace(quiet=None)  # type: ignore[assignment]
    with pytest.raises(Rejected, match="three times over"):
        request: Any = SimpleNamespace(timeout_s=1.0, tolerance=None)
        bench._confirm(SimpleNamespace(), 1.0, "none", Pending(held), request)  # type: ignore[arg-type]
    assert made == [None, 0.25, 0.0625]


def test_a_judges_pytorch_cuts_nothing_large_up():
    """What a test can tell without a GPU: the setting reaches the judge, and no candidate's nursery."""
    with Pool("cpu", parallel=1) as pool:
        pool.device()
        assert pool._process is not None
        told = Path(f"/proc/{pool._process.pid}/environ").read_bytes().split(b"\0")
        assert b"PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:1024" in told
        tasks = Path(f"/proc/{pool._process.pid}/task").iterdir()
        nurseries = [child for task in tasks for child in (task / "children").read_text().split()]
        assert nurseries
        for nursery in nurseries:
            assert b"PYTORCH_CUDA_ALLOC_CONF" not in Path(f"/proc/{nursery}/environ").read_bytes()


@pytest.mark.parametrize(("kept", "emptied"), [(20, 1), (9, 1), (8, 0), (0, 0)])
def test_much_is_given_back(device: SimpleNamespace, kept: int, emptied: int):
    device.allocated = device.reserved - device.between - kept * GIB
    trim(0)
    assert device.emptied == emptied
