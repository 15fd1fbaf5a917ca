"""How long the command line takes to start: ``python benchmarks/cli_start.py [ROUNDS]``.

Prints the median and the fastest of ROUNDS (10) cold processes of each command, and exits 1 where a median is over its
bar: 0.4 s for ``--help``, 0.8 s for ``ls`` on a grove that exists. Neither may import torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARS = {"--help": 0.4, "ls": 0.8}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process, in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "kernelgrove", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        grove = str(Path(folder) / "grove.db")
        from kernelgrove.storage import open_store

        open_store(grove, create=True).close()
        for name, bar in BARS.items():
            arguments = [name] if name == "--help" else [name, "--db", grove]
            seconds(arguments)  # the first one fills the page cache and writes byte code
            taken = [seconds(arguments) for _ in range(rounds)]
            median = statistics.median(taken)
            over += median > bar
            print(f"{name:8} median {median:.3f} s, fastest {min(taken):.3f} s, of {rounds}; bar {bar} s")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
