"""How long counted launches would take on a GPU: a roofline with occupancy, waves and latency.

A launch takes the longest of four times, each of which can be followed by hand:

- *dram*: bytes that miss L2 ÷ bandwidth that the resident programs can draw;
- *l2* (or *latency*): every byte asked for ÷ L2 bandwidth, or ÷ what the loads in flight allow (Little's law);
- *compute*: Σ operations ÷ the unit's rate, times the idle SMs of the last wave;
- *latency* of the programs one after another on their slots;

and never less than an empty kernel (*launch*); a gap to the next one is added. Constants and their sources stand
below; docs/projection.md says which are documented, which fitted to H200 measurements, and which assumed. Standard
library only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..wire.work import Compiled, Work

#: Share of the datasheet's bandwidth that a large copy reaches: 4.3 of 4.8 TB/s on the H200, as measured.
DRAM_EFFICIENCY = 0.9
#: Bytes an SM can exchange with L2 a clock (NVIDIA A100 whitepaper: 64 B/clk/SM read; later chips the same).
SM_BYTES_PER_CLOCK = 64
#: Share of all SMs' ports that L2 serves. An assumption: it gives an H100 6.7 TB/s, twice its DRAM.
L2_EFFICIENCY = 0.4
#: Load-to-use time of an L2 hit and of a DRAM access under load, seconds. The usual order of magnitude of recent
#: chips, assumed for all; with the bytes in flight below it gives the H200's layer norm of 16 long rows its 8 ms.
L2_LATENCY_S, DRAM_LATENCY_S = 0.25e-6, 0.6e-6
#: Bytes a thread of a PyTorch kernel keeps in flight: two 16-byte loads. Fitted to that layer norm.
ATEN_IN_FLIGHT = 32
#: The same for a Triton kernel whose registers are not known. An assumption.
TRITON_IN_FLIGHT = 64
#: Least time of a program: start, one load from DRAM, a dependent store: two memory latencies and a little. Chosen
#: with the H200's layer norm of 4.2 million rows of 64 in view, which it still puts too low.
PROGRAM_S = 1.5e-6
#: Duration of a kernel that does nothing, and the gap between two in one stream: assumed, within the 2-4 µs that
#: back-to-back launches are commonly said to cost together. The host is assumed to keep ahead.
KERNEL_S, GAP_S = 2.0e-6, 1.0e-6
#: Lanes an SM: special functions (CUDA C++ Programming Guide, arithmetic throughput table: 16), integers (64).
SPECIAL_LANES, INT_LANES = 16, 64
#: Share of issue slots that ordinary arithmetic fills in practice. An assumption.
ALU_EFFICIENCY = 0.6
#: Share of peak of matrix products: cuBLAS 6.87e10 flops in 1.30-1.44 ms of fp32 and the TF32 column of the same
#: table; cuDNN 3.0e11 flops in 9.1 ms (fp32) and 3.9 ms (TF32) with its bias and pointwise kernels taken off.
LIBRARY_DOT = {"dot:fp32": 0.75, "other": 0.65}
CONVOLUTION_DOT = {"dot:fp32": 0.6, "other": 0.35}
#: Triton's dot: an assumption (fp32 runs on FMA units from shared memory; tensor cores lag hand-written kernels).
TRITON_DOT = {"dot:fp32": 0.5, "other": 0.6}
#: Kernels that fall short of their bandwidth for a reason the counts do not show. Scans synchronise a block at every
#: step: cumprod of (32768, 32768) takes 4.5 ms where its bytes take 2.0.
SCAN_EFFICIENCY = dict.fromkeys(("aten.cumsum", "aten.cumprod", "aten.logcumsumexp"), 0.45)
#: Warps an SM needs to keep its units busy: two for each of four schedulers; tensor cores are fed by four.
WARPS_FOR_ALU, WARPS_FOR_TENSOR = 8, 4
#: Shared memory the system keeps of each block from compute capability 8.0 on (Ampere Tuning Guide).
RESERVED_SHARED = 1024

Spec = int | tuple[Sequence[int], int] | Any


@dataclass(frozen=True)
class LaunchCost:
    """One launch: its time without the gap, and the times that compete for it, in milliseconds."""

    name: str
    ms: float
    bound: str  # dram | l2 | compute | latency | launch
    dram_ms: float
    l2_ms: float
    compute_ms: float


@dataclass(frozen=True)
class Projection:
    """Projected time of one call of ``forward``; ``notes`` say what was assumed or corrected."""

    time_ms: float
    launches: tuple[LaunchCost, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def project(
    works: Sequence[Work], compiled: Sequence[Compiled] | None, facts: Mapping[str, Any], compulsory_bytes: int
) -> Projection:
    """Project *works* (in launch order) onto the GPU of *facts* (``GpuSpec.facts()``).

    *compiled* holds the Triton launches of the same forward in order, or None where nothing was compiled.
    The counts are a worker's claim: whatever they say, the time is never below *compulsory_bytes* ÷ the full
    bandwidth. Raises ValueError when *works* is empty and nothing has to be moved.
    """
    if not works and compulsory_bytes <= 0:
        raise ValueError("nothing was launched and nothing has to be moved: there is nothing to project")
    gpu = _Gpu(facts)
    notes: list[str] = []
    works = [_sane(work, notes) for work in works]
    costs = tuple(_cost(work, made, gpu, notes) for work, made in _pair(works, compiled, notes))
    seconds = sum(cost.ms for cost in costs) / 1e3 + GAP_S * len(costs)
    floor = compulsory_bytes / gpu.bandwidth
    if seconds < floor:
        notes.append(f"raised to the {floor * 1e3:.4g} ms that moving the inputs and outputs once takes")
        seconds = floor
    return Projection(seconds * 1e3, costs, tuple(dict.fromkeys(notes)))


def compulsory_bytes(inputs: Iterable[Spec], outputs: Iterable[Spec], parameters: Iterable[Spec] = ()) -> int:
    """Bytes that any implementation must move: every input and parameter read once, every output written once.

    A spec is a number of bytes, a ``(shape, bytes an element)`` pair, or a tensor (meta will do). Parameters that
    the problem only gathers from (an embedding's table) are for the caller to leave out.
    """
    return sum(_bytes(spec) for specs in (inputs, outputs, parameters) for spec in specs)


def _bytes(spec: Spec) -> int:
    if isinstance(spec, int):
        return spec
    if isinstance(spec, tuple):
        shape, item = spec
        return math.prod(shape) * int(item)
    return int(spec.numel()) * int(spec.element_size())


class _Gpu:
    """Rates of one GPU in bytes, operations and seconds."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.name = str(facts["name"])
        self.sms = int(facts["sms"])
        self.bandwidth = float(facts["bandwidth_gbs"]) * 1e9
        self.l2_bytes = float(facts["l2_mb"]) * 2**20
        self.clock = float(facts["boost_clock_ghz"]) * 1e9
        self.port = SM_BYTES_PER_CLOCK * self.clock
        self.l2_bandwidth = L2_EFFICIENCY * self.sms * self.port
        self.max_threads = int(facts["max_threads_per_sm"])
        self.max_blocks = int(facts["max_blocks_per_sm"])
        self.registers = int(facts["registers_per_sm"])
        self.shared = int(facts["shared_kb_per_sm"]) * 1024
        self.reserved = RESERVED_SHARED if tuple(facts["capability"]) >= (8, 0) else 0
        self.facts = facts

    def blocks_per_sm(self, threads: int, made: Compiled | None) -> int:
        """Resident programs an SM (CUDA occupancy rules: registers are given out by 256 a warp)."""
        limits = [self.max_blocks, self.max_threads // threads]
        if made is not None:
            if made.registers > 0:
                a_warp = math.ceil(made.registers * 32 / 256) * 256
                limits.append(self.registers // a_warp // max(1, threads // 32))
            if made.shared_bytes > 0:
                limits.append(self.shared // (made.shared_bytes + self.reserved))
        return max(1, min(limits))

    def rate(self, unit: str, notes: list[str]) -> float:
        """Peak operations a second of *unit*; where the chip lacks it, of the unit that does the work instead."""
        if unit == "special":
            return SPECIAL_LANES * self.sms * self.clock
        if unit == "int":
            return INT_LANES * self.sms * self.clock
        if unit == "fp64":
            return float(self.facts["fp64_tflops"]) * 1e12
        vector = float(self.facts["fp32_tflops"]) * 1e12
        if unit == "dot:fp32":
            return vector
        if not unit.startswith("dot:"):
            return vector / 2  # the datasheet counts a fused multiply-add as two; these are counted one by one
        kind = unit.removeprefix("dot:")
        peak = self.facts.get("int8_tops" if kind == "int8" else f"{kind}_tflops")
        if peak is None:
            notes.append(f"the {self.name} has no {kind} tensor cores: counted at its fp32 rate")
            return vector
        return float(peak) * 1e12


def _cost(work: Work, made: Compiled | None, gpu: _Gpu, notes: list[str]) -> LaunchCost:
    warps = max(1, made.num_warps if made else work.num_warps)
    threads = warps * 32
    blocks = gpu.blocks_per_sm(threads, made)
    slots = gpu.sms * blocks
    programs = work.programs
    if programs <= 0:  # a library kernel that sizes its own grid
        threads, blocks, slots, programs = 1024, gpu.max_threads // 1024, gpu.sms * (gpu.max_threads // 1024), 0
    in_flight = _in_flight(work, made, threads)
    unique = work.read_bytes + work.write_bytes
    requested = max(work.requested_bytes, unique)
    if made is not None and made.spills > 0:
        requested += 2 * made.spills * threads * programs
        notes.append(f"{work.name} spills {made.spills} bytes a thread")
    dram = unique + _missed(work, min(programs, slots), gpu)
    latency = L2_LATENCY_S + (DRAM_LATENCY_S - L2_LATENCY_S) * min(1.0, dram / max(requested, 1))
    efficiency = DRAM_EFFICIENCY * SCAN_EFFICIENCY.get(work.name, 1.0)

    def drawn(resident: int) -> float:
        return min(gpu.bandwidth * efficiency, min(gpu.sms, resident) * gpu.port)

    def served(resident: int) -> float:
        return min(gpu.l2_bandwidth, min(gpu.sms, resident) * gpu.port, waiting(resident))

    def waiting(resident: int) -> float:
        return resident * threads * in_flight / latency

    dram_s = _in_waves(dram, programs, slots, drawn)
    l2_s = _in_waves(requested, programs, slots, served)
    compute_s = _compute(work, warps, blocks, slots, gpu, notes)
    chain_s = math.ceil(programs / slots) * PROGRAM_S
    by = "latency" if waiting(min(programs, slots) or slots) < gpu.l2_bandwidth else "l2"
    seconds, bound = max((dram_s, "dram"), (compute_s, "compute"), (l2_s, by), (chain_s, "latency"))
    if seconds < KERNEL_S:
        seconds, bound = KERNEL_S, "launch"
    return LaunchCost(work.name, seconds * 1e3, bound, dram_s * 1e3, l2_s * 1e3, compute_s * 1e3)


def _in_waves(amount: float, programs: int, slots: int, rate: Callable[[int], float]) -> float:
    """Seconds for *amount* of bytes spread evenly over *programs*: full waves, then the programs that are left."""
    if amount <= 0:
        return 0.0
    if programs <= 0:
        return amount / rate(slots)
    full, rest = divmod(programs, slots)
    seconds = full * slots / programs * amount / rate(slots)
    return seconds + (rest / programs * amount / rate(rest) if rest else 0.0)


def _in_flight(work: Work, made: Compiled | None, threads: int) -> float:
    """Bytes of loads that one thread has under way. Their results need registers (half of what a kernel has beyond
    the 16 for its addresses), or, in a pipelined loop, the shared memory they are copied to."""
    if work.kind == "aten":
        return ATEN_IN_FLIGHT
    if made is None or made.registers <= 0:
        return TRITON_IN_FLIGHT
    by_registers = min(256.0, max(16.0, (made.registers - 16) * 4 / 2))
    pipelined = made.num_stages > 1 and any(unit.startswith("dot:") for unit in work.flops)
    return max(by_registers, made.shared_bytes / threads) if pipelined else by_registers


def _missed(work: Work, resident: int, gpu: _Gpu) -> float:
    """Bytes read again that L2 no longer holds.

    Bytes that several programs share are taken to hit (they ask at about the same time); bytes that one program
    reads again hit as far as what the resident programs work on fits into L2.
    """
    if work.programs <= 0 or resident <= 0:
        return 0.0
    unique = work.read_bytes + work.write_bytes
    if work.program_bytes > 0:
        again = work.requested_bytes - work.program_bytes * work.programs
        held = work.program_bytes * resident
    elif any(unit.startswith("dot:") for unit in work.flops):
        return 0.0  # tiles: requested again by other programs
    else:
        again, held = work.requested_bytes - unique, unique * resident // work.programs
    return max(0.0, again) * (1.0 - min(1.0, gpu.l2_bytes / max(held, 1.0)))


def _compute(work: Work, warps: int, blocks: int, slots: int, gpu: _Gpu, notes: list[str]) -> float:
    programs = work.programs
    idle, resident_warps = 1.0, gpu.max_threads // 32
    if programs > 0:
        full, rest = divmod(programs, slots)
        idle = (full * slots + math.ceil(rest / gpu.sms) * gpu.sms) / programs
        resident_warps = warps * min(blocks, math.ceil(programs / gpu.sms))
    if work.kind != "aten":
        dots = TRITON_DOT
    else:
        dots = CONVOLUTION_DOT if "convolution" in work.name else LIBRARY_DOT
    seconds = 0.0
    for unit, count in work.flops.items():
        tensor = unit.startswith("dot:")
        efficiency = (dots.get(unit) or dots["other"]) if tensor else ALU_EFFICIENCY
        busy = min(1.0, resident_warps / (WARPS_FOR_TENSOR if tensor else WARPS_FOR_ALU))
        seconds += count / (gpu.rate(unit, notes) * efficiency * busy)
    return seconds * idle


def _pair(
    works: Sequence[Work], compiled: Sequence[Compiled] | None, notes: list[str]
) -> list[tuple[Work, Compiled | None]]:
    """Give each Triton launch what the compiler made of it: same kernel, in launch order."""
    if compiled is None:
        if any(work.kind == "triton" for work in works):
            notes.append("not compiled for the target: full occupancy assumed, spills unknown")
        return [(work, None) for work in works]
    queues: dict[str, deque[Compiled]] = {}
    for made in compiled:
        queues.setdefault(made.name, deque()).append(made)
    pairs: list[tuple[Work, Compiled | None]] = []
    for work in works:
        found: Compiled | None = None
        if work.kind == "triton":
            queue = queues.get(work.name)
            found = queue.popleft() if queue else None
            if found is None:
                notes.append(f"no compiled launch of {work.name}: full occupancy assumed")
            elif found.grid != work.grid and any(work.grid):
                notes.append(f"{work.name} was counted with grid {work.grid} and compiled with {found.grid}")
        pairs.append((work, found))
    if left := [name for name, queue in queues.items() if queue]:
        notes.append(f"compiled but not counted: {', '.join(left)}")
    return pairs


def _sane(work: Work, notes: list[str]) -> Work:
    """A worker's counts are a claim: negative or non-finite ones count as nothing."""
    numbers = (work.programs, work.read_bytes, work.write_bytes, work.requested_bytes, work.program_bytes)
    if all(_good(number) for number in (*numbers, *work.flops.values())):
        return work
    notes.append(f"{work.name} came with impossible counts, which were dropped")
    values = [int(number) if _good(number) else 0 for number in numbers]
    return Work(
        work.kind, work.name, values[0], values[1], values[2], values[3],
        {unit: count for unit, count in work.flops.items() if _good(count)},
        work.grid, work.num_warps, work.num_stages, work.note, values[4],
    )  # fmt: skip


def _good(number: float) -> bool:
    return math.isfinite(number) and number >= 0
