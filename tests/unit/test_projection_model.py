"""The roofline: what must make a launch faster or slower, and the floors that nothing goes below."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelgrove.engine.evaluator.projection.model import compulsory_bytes, project
from kernelgrove.engine.evaluator.wire.work import Compiled, Work
from kernelgrove.engine.gpus import specs

H100 = specs.find("H100").facts()
GB = 10**9
COPY = Work("triton", "copy", 8192, GB, GB, 2 * GB, grid=(8192, 1, 1), program_bytes=2 * GB // 8192)
MADE = Compiled("copy", 40, 0, 0, 4, 3, (8192, 1, 1))


def ms(work: Work, made: Compiled | None = None, gpu: str = "H100") -> float:
    return project([work], None if made is None else [made], specs.find(gpu).facts(), 1).time_ms


def test_a_large_copy_is_bound_by_dram() -> None:
    projection = project([COPY], [MADE], H100, 2 * GB)
    assert projection.launches[0].bound == "dram"
    assert projection.time_ms == pytest.approx(2 * GB / (0.9 * 3350e9) * 1e3, rel=0.1)
    assert projection.notes == ()


def test_faster_memory_is_faster() -> None:
    assert ms(COPY, MADE, "H200") < ms(COPY, MADE, "H100") < ms(COPY, MADE, "A100_80GB") < ms(COPY, MADE, "A100")
    assert ms(COPY, MADE, "A100") < ms(COPY, MADE, "A10G") < ms(COPY, MADE, "T4")


def test_few_programs_leave_the_gpu_idle() -> None:
    few = replace(COPY, programs=8, grid=(8, 1, 1), program_bytes=2 * GB // 8)
    projection = project([few], [replace(MADE, grid=(8, 1, 1))], H100, 2 * GB)
    assert projection.launches[0].bound == "latency"
    assert projection.time_ms > 5 * ms(COPY, MADE)


def test_many_tiny_programs_are_bound_by_their_own_latency() -> None:
    tiny = replace(COPY, programs=4_000_000, grid=(4_000_000, 1, 1), program_bytes=2 * GB // 4_000_000)
    assert ms(tiny, replace(MADE, grid=(4_000_000, 1, 1))) > 2 * ms(COPY, MADE)


def test_rows_read_again_miss_l2_when_they_are_long() -> None:
    def rows(programs: int) -> float:
        grid = (programs, 1, 1)
        work = replace(COPY, requested_bytes=4 * GB, programs=programs, grid=grid, program_bytes=2 * GB // programs)
        return project([work], [replace(MADE, grid=grid)], H100, 1).launches[0].dram_ms

    assert rows(131072) == pytest.approx(2 * GB / (0.9 * 3350e9) * 1e3, rel=0.01)
    assert rows(1024) == pytest.approx(4 * GB / (0.9 * 3350e9) * 1e3, rel=0.05)


def test_tiles_shared_between_programs_are_served_by_l2() -> None:
    work = Work("triton", "mm", 4096, GB // 10, GB // 10, 10 * GB, {"dot:fp16": 1e9}, grid=(4096, 1, 1))
    cost = project([work], None, H100, 1).launches[0]
    assert cost.bound == "l2" and cost.l2_ms > 5 * cost.dram_ms


def test_compute_and_missing_units() -> None:
    work = Work("triton", "mm", 4096, 1000, 1000, 2000, {"dot:bf16": 1e13}, grid=(4096, 1, 1))
    assert project([work], None, H100, 1).launches[0].bound == "compute"
    on_t4 = project([work], None, specs.find("T4").facts(), 1)
    assert any("no bf16 tensor cores" in note for note in on_t4.notes)
    assert on_t4.time_ms > 10 * ms(work)


def test_a_nearly_empty_last_wave_costs_a_whole_one() -> None:
    made = Compiled("mm", 255, 100_000, 0, 8, 3, (264, 1, 1))  # one or two a SM
    work = Work("triton", "mm", 264, 1000, 1000, 2000, {"dot:fp16": 1e12}, grid=(264, 1, 1))
    more = replace(work, programs=265, grid=(265, 1, 1), flops={"dot:fp16": 1e12 * 265 / 264})
    assert ms(more, replace(made, grid=(265, 1, 1))) > 1.3 * ms(work, made)


def test_registers_shared_memory_and_spills_cost_time() -> None:
    starved = replace(MADE, shared_bytes=200_000)
    assert ms(COPY, starved) > 1.5 * ms(COPY, MADE)
    spilling = project([COPY], [replace(MADE, spills=4096)], H100, 1)
    assert spilling.time_ms > 1.5 * ms(COPY, MADE) and "spills 4096 bytes" in spilling.notes[0]


def test_a_small_launch_costs_what_an_empty_one_does() -> None:
    small = Work("aten", "aten.relu", 0, 400, 400, 800)
    projection = project([small] * 10, None, H100, 800)
    assert projection.time_ms == pytest.approx(10 * 0.003, rel=0.01)
    assert {cost.bound for cost in projection.launches} == {"launch"}


def test_the_floor_holds_whatever_a_worker_claims() -> None:
    lie = Work("triton", "copy", 1, 0, 0, 0)
    worse = Work("triton", "copy", -5, -GB, 0, 0, {"fp32": float("nan")})
    for work in (lie, worse):
        projection = project([work], None, H100, 2 * GB)
        assert projection.time_ms == pytest.approx(2 * GB / 3350e9 * 1e3)
        assert any("raised to" in note for note in projection.notes)
    assert any("impossible counts" in note for note in projection.notes)


def test_what_could_not_be_matched_is_said() -> None:
    assert "not compiled" in project([COPY], None, H100, 1).notes[0]
    assert "no compiled launch of copy" in project([COPY], [], H100, 1).notes[0]
    other = replace(MADE, grid=(1, 1, 1))
    assert "grid" in project([COPY], [other], H100, 1).notes[0]
    assert "compiled but not counted: copy" in project([COPY], [MADE, MADE], H100, 1).notes[0]


def test_nothing_to_project() -> None:
    with pytest.raises(ValueError, match="nothing was launched"):
        project([], None, H100, 0)


def test_compulsory_bytes_of_numbers_shapes_and_tensors() -> None:
    import torch

    weight = torch.empty(3, 5, dtype=torch.float16, device="meta")
    assert compulsory_bytes([100], [((4, 4), 4)], [weight]) == 100 + 64 + 30


def test_projections_are_json() -> None:
    import json

    assert json.loads(json.dumps(project([COPY], [MADE], H100, 1).to_json()))["launches"][0]["name"] == "copy"
