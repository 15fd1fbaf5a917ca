"""Resource limits of a worker, and its place first in line when memory runs out."""

# ruff: noqa: PTH116, PTH208 - two calls for each process of the machine, on the way to every worker

from __future__ import annotations

import os
import resource
from pathlib import Path

_UNLIMITED = resource.RLIM_INFINITY
#: After the soft CPU limit (SIGXCPU) a worker has this many seconds before SIGKILL.
_CPU_GRACE_S = 5


def limit(kind: int, soft: int, hard: int | None = None) -> int:
    """Set one limit, never above the hard limit in force; returns the soft limit that holds. Raises OSError."""
    ceiling = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    if ceiling != _UNLIMITED:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(kind, (soft, wanted))
    return resource.getrlimit(kind)[0]


def set_plain(cpu_s: int, file_bytes: int, open_files: int) -> str:
    """No core files; size of a file, open descriptors and seconds of CPU bounded. Says what holds."""
    limit(resource.RLIMIT_CORE, 0)
    size = limit(resource.RLIMIT_FSIZE, file_bytes)
    files = limit(resource.RLIMIT_NOFILE, open_files)
    cpu = limit(resource.RLIMIT_CPU, cpu_s, cpu_s + _CPU_GRACE_S)
    return f"files of {size} bytes, {files} open, {cpu} s of CPU, no core files"


def set_memory(memory_bytes: int, gpu: bool) -> str:
    """Bound what the worker allocates on top of what it was forked with, in bytes.

    RLIMIT_DATA counts private writable memory. RLIMIT_AS, which counts shared memory too, holds on the CPU only:
    CUDA reserves address space by the terabyte.
    """
    page = resource.getpagesize()
    sizes = Path("/proc/self/statm").read_text().split()
    data = limit(resource.RLIMIT_DATA, int(sizes[5]) * page + memory_bytes)
    if gpu:
        return f"data {data} bytes"
    return f"data {data} bytes, address space {limit(resource.RLIMIT_AS, int(sizes[0]) * page + memory_bytes)} bytes"


def tasks_of(uid: int) -> int:
    """How many tasks (threads) run under user *uid* now: about what RLIMIT_NPROC counts."""
    total = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if os.stat(f"/proc/{entry}").st_uid == uid:
                total += os.stat(f"/proc/{entry}/task").st_nlink - 2  # a link each, and those of any folder
        except OSError:  # gone meanwhile
            continue
    return total


def shared_bytes(pid: int) -> int:
    """How much memory that can be shared process *pid* has touched: RLIMIT_DATA does not count it, and RLIMIT_AS, which
    does, cannot be set on a GPU. Pinned memory is of this kind. 0 where the process is gone."""
    try:
        for task in [str(pid), *os.listdir(f"/proc/{pid}/task")]:  # a first thread that has ended says nothing of it
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                for line in file:
                    if line.startswith("RssShmem:"):
                        return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return 0


def die_first() -> None:
    """When memory runs out, this process and its children are killed before any other. Raises OSError."""
    Path("/proc/self/oom_score_adj").write_text("1000")
