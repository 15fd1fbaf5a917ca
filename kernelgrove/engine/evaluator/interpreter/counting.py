"""Bytes and FLOPs of each launch at full size, without the memory: a few programs interpreted, the grid extrapolated.

While ``counting`` is active nothing is launched for real. Each storage gets a made-up base address; loads give stand-in
numbers (0 for integers, 0.5 to 1 for floats), stores are dropped, every address is checked against the storage's full
extent. Counted for a program: bytes requested by every load and store (masked-off elements aside; an atomic is a read
and a write), distinct bytes of each storage, operations by unit.

Units, as ``work.Work`` names them: an add, multiply, comparison, minimum or cast-free elementwise operation is 1 of its
operand's type; exp, log, sqrt, sin, erf, division and libdevice calls are 1 ``special``; a reduction or scan of n is
n-1; a dot is 2·M·N·K of ``dot:<type>`` (fp32: ``dot:tf32`` unless ``input_precision="ieee"``, three times for
``tf32x3``); address and index arithmetic is ``int``. Casts, selects and shape changes are
free.

Sampling: see ``sampling``. Distinct bytes over the grid: along an axis where two programs touch the same bytes of a
storage it is counted once, along the others as many times as there are programs, and never more than the storage.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..wire.work import Work
from . import adapter, labels, sampling
from .builder import Builder
from .errors import CountingLimit, KernelError, NeedsValues, candidate_line
from .formats import NARROW, Array, pack
from .memory import Bounds, Region
from .sampling import Program
from .spans import Spans, intervals

EXTRA_PROGRAMS = 13
#: Operations that programs beyond the planned ones may take together: some 0.3 s. Not seconds, since counts that
#: depend on how busy the machine is would project the same program differently each time.
EXTRA_STEPS = 20_000
_BASE, _GAP = 1 << 44, 1 << 33


@dataclass
class _Tally:
    """What one program did."""

    steps: int = 0  # operations interpreted, memory included
    requested: int = 0
    flops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    reads: dict[int, Spans] = field(default_factory=lambda: defaultdict(Spans))
    writes: dict[int, Spans] = field(default_factory=lambda: defaultdict(Spans))


class StandInMemory(Bounds):
    """Memory with addresses and no contents. ``tally`` is the program's that runs."""

    def __init__(self, kernel: str, regions: list[Region], deadline: float, limit: float) -> None:
        super().__init__(kernel, regions)
        self.deadline = deadline
        self.limit = limit
        self.tally = _Tally()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise CountingLimit(
                f"counting {self.kernel} took more than {self.limit:g} s: program {self.program} alone does too much "
                "to be interpreted, so it has no projection"
            )

    def load(self, pointers: Any, mask: Array | None, other: Array | None, dtype: Any) -> Array:
        self._touch("load", pointers, mask, dtype.itemsize, self.tally.reads)
        values = _stand_in(pointers, pointers.data.shape, dtype)
        if mask is None:
            return values
        return np.where(mask, values, np.zeros((), dtype) if other is None else other.astype(dtype, copy=False))

    def store(self, pointers: Any, value: Array, mask: Array | None, dtype: Any) -> None:
        self._touch("store", pointers, mask, dtype.itemsize, self.tally.writes)

    def _touch(self, action: str, pointers: Any, mask: Array | None, size: int, spans: dict[int, Spans]) -> None:
        self.check_time()
        self.tally.steps += 1
        region, _ = self.find(action, pointers, mask, size)
        addresses: Array = pointers.data
        if mask is not None:
            mask = np.broadcast_to(mask, addresses.shape)
            if not mask.all():
                addresses = addresses[mask]
        if not addresses.size:
            return
        self.tally.requested += addresses.size * size
        regions = self.regions if region is None else (region,)
        for each in regions:
            inside = addresses
            if region is None:
                inside = addresses[(addresses >= np.uint64(each.low)) & (addresses < np.uint64(each.high))]
            if inside.size:
                spans[each.low].add(*intervals(inside, size))


_pool: Array = np.random.default_rng(0).uniform(0.5, 1.0, 1 << 16)
_pools: dict[Any, Array] = {}


def _stand_in(pointers: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Numbers in place of what memory holds; the same for the same shape."""
    kind = pointers.get_element_ty()
    found = _pools.get((kind.name, shape))
    if found is None:
        if kind.is_floating():
            pool = np.resize(_pool, shape)
            found = pack(pool, kind.name) if kind.name in NARROW else pool.astype(dtype)
        else:
            found = np.zeros(shape, dtype)
        found.flags.writeable = False
        if len(_pools) > 64:
            _pools.clear()
        _pools[kind.name, shape] = found
    return found


class CountingBuilder(Builder):
    """A builder that tells the memory what it computes."""

    counts = True

    def __init__(self) -> None:
        super().__init__()
        self._operations = 0

    def did(self, unit: str, amount: float) -> None:
        memory: Any = self.memory
        memory.tally.flops[unit] += amount
        memory.tally.steps += 1
        self._operations += 1
        if not self._operations & 0xFF:
            memory.check_time()


class _Counter:
    """Counts launches in place of running them."""

    def __init__(self, interpreter: Any, record: Callable[[Work], None], sample: int, limit: float) -> None:
        self.interpreter = interpreter
        self.record = record
        self.sample = sample
        self.limit = limit
        self._next = _BASE

    def region(self, name: str, tensor: torch.Tensor) -> Region:
        """Made-up memory for a tensor; views of one storage share it."""
        storage = tensor.untyped_storage()
        low = storage.__dict__.get("_kernelgrove_base")
        if low is None:
            low = self._next
            setattr(storage, "_kernelgrove_base", low)  # noqa: B010 - not an attribute that torch knows of
            self._next += (storage.nbytes() // _GAP + 2) * _GAP
        start = low + int(tensor.storage_offset()) * tensor.element_size()
        return Region(name, low, low + storage.nbytes(), start, tensor.numel(), storage)

    def __call__(self, launch: Any) -> None:
        deadline = time.monotonic() + self.limit
        if not all(launch.grid):
            return
        arguments, regions = launch.arguments(self.region)
        memory = StandInMemory(launch.name, regions, deadline, self.limit)
        tallies: dict[Program, _Tally] = {}

        def one(program: Program) -> None:
            memory.tally = _Tally()
            self.interpreter.run_programs(launch, arguments, memory, iter([program]))
            tallies[program] = memory.tally

        note = ""
        planned = sampling.order(launch.grid, self.sample)
        for program in planned:
            try:
                one(program)
            except CountingLimit:
                if not tallies:
                    raise
                note = f"counted on {len(tallies)} of {len(planned)} sampled programs within {self.limit:g} s"
                break
        longest = max(tally.steps for tally in tallies.values())
        extra = 0 if note else min(EXTRA_PROGRAMS, EXTRA_STEPS // max(longest, 1))
        for _, program in zip(range(extra), sampling.more(launch.grid, set(tallies)), strict=False):
            one(program)
        self.record(_work(launch, regions, tallies, note))


def _work(launch: Any, regions: list[Region], tallies: dict[Program, _Tally], note: str) -> Work:
    grid: Program = launch.grid
    shares = _shares(grid, list(tallies))
    flops: dict[str, float] = defaultdict(float)
    requested = 0.0
    for program, tally in tallies.items():
        requested += shares[program] * tally.requested
        for unit, amount in tally.flops.items():
            flops[unit] += shares[program] * amount
    extents = {region.low: region.high - region.low for region in regions}
    read, written = (
        sum(
            _distinct(grid, {p: getattr(t, side) for p, t in tallies.items()}, low, size)
            for low, size in extents.items()
        )
        for side in ("reads", "writes")
    )
    total = grid[0] * grid[1] * grid[2]
    each = sum(shares[p] * sum(s.size() for s in (*t.reads.values(), *t.writes.values())) for p, t in tallies.items())
    return Work(
        kind="triton",
        name=launch.name,
        programs=total,
        read_bytes=read,
        write_bytes=written,
        requested_bytes=round(requested),
        flops={unit: float(round(amount)) for unit, amount in flops.items()},
        grid=grid,
        num_warps=int(launch.options.get("num_warps", 4)),
        num_stages=int(launch.options.get("num_stages", 3)),
        note=note,
        program_bytes=round(each / total),
    )


def _shares(grid: Program, programs: list[Program]) -> dict[Program, float]:
    """How many programs of the grid each sampled one stands for; a class without a sample is shared among all."""
    classes = sampling.weights(grid)
    by_class: dict[Program, list[Program]] = defaultdict(list)
    for program in programs:
        by_class[sampling.class_of(program, grid)].append(program)
    left = sum(count for kind, count in classes.items() if kind not in by_class)
    return {
        program: classes[kind] / len(found) + left / len(programs)
        for kind, found in by_class.items()
        for program in found
    }


def _distinct(grid: Program, spans: dict[Program, dict[int, Spans]], low: int, size: int) -> int:
    """Distinct bytes of one storage over the whole grid."""
    touched = {program: found[low] for program, found in spans.items() if low in found}
    if not touched:
        return 0
    keys = {program: span.key() for program, span in touched.items()}
    if len(set(keys.values())) == 1 and len(touched) == len(spans):
        return next(iter(touched.values())).size()
    shared = [_same_along(axis, keys) for axis in range(3)]
    reduced: Program = tuple(1 if same else n for same, n in zip(shared, grid, strict=True))  # type: ignore[assignment]
    seen: dict[Program, int] = {}
    for program in spans:
        onto: Program = tuple(0 if same else i for same, i in zip(shared, program, strict=True))  # type: ignore[assignment]
        seen[onto] = max(seen.get(onto, 0), touched[program].size() if program in touched else 0)
    shares = _shares(reduced, list(seen))
    total = sum(shares[program] * count for program, count in seen.items())
    return min(size, round(total))


def _same_along(axis: int, keys: dict[Program, Any]) -> bool:
    """Do programs that differ on ``axis`` alone touch the same bytes? False where no two such were sampled."""
    lines: dict[Any, set[Any]] = defaultdict(set)
    sizes: dict[Any, int] = defaultdict(int)
    for program, key in keys.items():
        rest = program[:axis] + program[axis + 1 :]
        lines[rest].add(key)
        sizes[rest] += 1
    compared = [rest for rest, count in sizes.items() if count > 1]
    return bool(compared) and all(len(lines[rest]) == 1 for rest in compared)


_VALUE_WORDS = (
    "meta tensor",
    "Cannot copy out of meta",
    "type tensor to numpy",
    "data-dependent",
    "raises unimplemented",
    "Meta tensors",
)


@contextlib.contextmanager
def counting(record: Callable[[Work], None], sample: int = 3, limit: float = 20.0) -> Iterator[None]:
    """Count every Triton launch inside instead of running it; ``record`` gets one ``Work`` a launch, in order.

    ``sample`` places an axis are told apart (first, middle, last); ``limit`` is in seconds a launch. Needs
    ``install()`` and, for host code that names CUDA, ``pretend(facts, "meta")``.

    Raises ``CountingLimit`` where not even one program fits the limit, ``NeedsValues`` where host code reads a value
    or a shape that depends on one, ``OutOfBounds`` and ``KernelError`` as a real launch does.
    """
    interpreter = adapter.current()
    if interpreter is None:
        raise RuntimeError("call install() before counting")
    semantic = interpreter.semantic
    execute, builder = interpreter.execute, semantic.builder
    interpreter.execute = _Counter(interpreter, record, sample, limit)
    semantic.builder = CountingBuilder()
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if isinstance(error, (KernelError, CountingLimit)) or not any(word in str(error) for word in _VALUE_WORDS):
            raise
        with labels.truthfully():
            _, line, text = candidate_line(error.__traceback__)
        where = f"line {line} ({text})" if line else "host code"
        raise NeedsValues(f"no projection: {where} reads a value on the host: {error}") from error
    finally:
        interpreter.execute, semantic.builder = execute, builder
