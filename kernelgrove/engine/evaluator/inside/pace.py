"""How fast Python is on one processor or another, and work that stays on one.

What the processor's other half does for a neighbour, who may be in another virtual machine, makes a host two to three
times as slow for seconds on end (docs/benchmarks/evaluator-h200.md).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

_STEPS, _LOOKS = 1000, 3


def pace(cores: Sequence[int]) -> list[float | None]:
    """What the same work takes on each of *cores*, in ms; None where this process may not run."""
    before = os.sched_getaffinity(0)
    found: list[float | None] = []
    for core in cores:
        found.append(min(_work_ms() for _ in range(_LOOKS)) if _run_on({core}) else None)
    _run_on(before)
    return found


def _work_ms() -> float:
    table = dict.fromkeys(range(64), 0)
    began = time.perf_counter()
    for step in range(_STEPS):
        table[step % 64] += len(str(step))
    return (time.perf_counter() - began) * 1e3


def staying(core: int | None) -> contextlib.AbstractContextManager[None]:
    """This thread, and threads that it starts inside, run on *core* alone: None, or where it may not run, wherever
    there is room."""
    return _within(set() if core is None else {core})


def leaving(core: int | None) -> contextlib.AbstractContextManager[None]:
    """This thread, and threads that it starts inside, run anywhere but on *core*: it is somebody else's, who cannot
    make room for one that looks without a pause."""
    return _within(os.sched_getaffinity(0) - {core})


@contextlib.contextmanager
def _within(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    moved = bool(cores & before) and _run_on(cores & before)
    try:
        yield
    finally:
        if moved:
            _run_on(before)


def _run_on(cores: set[int]) -> bool:
    """Whether this thread may: some containers let nobody choose."""
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return False
    return True
