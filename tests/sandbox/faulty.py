"""Candidates that break: what each does, what may come of it, and what the message says."""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import dataclass

ROOT = os.geteuid() == 0

HEAD = """
import ctypes, os, signal, sys, threading, time
import torch
import triton
import triton.language as tl


def honest(x):
    return torch.tanh(x).sum(dim=1)
"""


def forward(body: str) -> str:
    """A whole candidate whose ``forward`` is *body*."""
    model = "\n\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n"
    return HEAD + model + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8) + "\n"


@dataclass(frozen=True)
class Fault:
    code: str
    outcomes: frozenset[str]
    says: str = ""
    timeout_s: float = 20.0
    only: str = ""  # "cpu" or "cuda"


def fault(code: str, outcomes: str, says: str = "", timeout_s: float = 20.0, only: str = "") -> Fault:
    return Fault(code, frozenset(outcomes.split()), says, timeout_s, only)


SPIN_KERNEL = """

@triton.jit
def forever(flag_ptr, y_ptr):
    while tl.load(flag_ptr, volatile=True) == 0:
        pass
    tl.store(y_ptr, 1.0)
"""
SLOW_COMPILE = """

@triton.jit
def large(x_ptr, y_ptr, N: tl.constexpr):
    at = tl.arange(0, 8192)
    total = tl.load(x_ptr + at)
    for number in tl.static_range(N):
        total = tl.sort(total * (number + 1))
    tl.store(y_ptr + at, total)
"""

FAULTS = {
    "hangs_in_import": fault(HEAD + "\nwhile True:\n    pass\n", "timeout", "loading the file", 3.0),
    "hangs_in_constructor": fault(
        forward("return honest(x)").replace(
            "    def forward", "    def __init__(self):\n        time.sleep(60)\n\n    def forward"
        ),
        "timeout",
        "constructing",
        3.0,
    ),
    "hangs_in_compile": fault(
        HEAD + SLOW_COMPILE + forward("y = x.new_empty(8192)\nlarge[(1,)](x, y, 4000)\nreturn y")[len(HEAD) :],
        "timeout",
        "first call",
        6.0,
        only="cuda",
    ),
    "hangs_in_a_kernel": fault(
        HEAD
        + SPIN_KERNEL
        + forward(
            "flag = torch.zeros(1, dtype=torch.int32, device=x.device)\ny = honest(x)\nforever[(1,)](flag, y)\nreturn y"
        )[len(HEAD) :],
        "timeout",
        "first call",
        6.0,
    ),
    "hangs_in_a_thread": fault(
        forward(
            """
            def spin():
                while True:
                    pass

            threading.Thread(target=spin).start()
            return honest(x)
            """
        ),
        "ok timeout",
    ),
    "hangs_at_exit": fault(
        forward("import atexit\natexit.register(time.sleep, 60)\nsignal.signal(15, signal.SIG_IGN)\nreturn honest(x)"),
        "ok",
    ),
    "waits_for_a_child_that_hangs": fault(
        forward("if os.fork() == 0:\n    time.sleep(60)\nos.wait()\nreturn honest(x)"), "timeout", "first call", 3.0
    ),
    "aborts": fault(forward("os.abort()"), "worker_died", "SIGABRT"),
    "overflows_the_stack": fault(
        forward("sys.setrecursionlimit(1 << 30)\nfor _ in range(1_000_000):\n    x = [x]\nreturn repr(x)"),
        # From Python 3.12 on the interpreter notices by itself.
        *(("worker_died", "SIGSEGV") if sys.version_info < (3, 12) else ("runtime_error", "RecursionError")),
    ),
    "jumps_to_nowhere": fault(forward("ctypes.CFUNCTYPE(None)(64)()"), "worker_died", "SIG"),
    "exits_in_import": fault(HEAD + "\nos._exit(0)\n", "worker_died", "exited with code 0"),
    "exits_in_a_thread": fault(
        forward("threading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(5)\nreturn honest(x)"),
        "worker_died",
        "exited",
    ),
    "raises_system_exit": fault(forward("raise SystemExit(0)"), "runtime_error", "SystemExit"),
    "stops_itself": fault(
        forward("os.kill(os.getpid(), signal.SIGSTOP)\nreturn honest(x)"), "timeout", "first call", 3.0
    ),
    "kills_its_group": fault(forward("os.killpg(0, signal.SIGKILL)"), "worker_died", "SIGKILL"),
    "kills_all_it_may": fault(forward("os.kill(-1, signal.SIGKILL)\nreturn honest(x)"), "ok worker_died runtime_error")
    if ROOT
    else None,
    "fork_bomb": fault(
        forward(
            """
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
            """
        ),
        "timeout worker_died rejected",
        timeout_s=3.0,
    ),
    "thread_bomb": fault(
        forward(
            """
            while True:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            """
        ),
        "runtime_error timeout out_of_memory worker_died",
        timeout_s=8.0,
    ),
    "ten_gigabytes_on_stdout": fault(
        forward(
            """
            block = b"x" * (1 << 20)
            for _ in range(5 << 10):
                for number in (1, 2):
                    os.write(number, block)
            return honest(x)
            """
        ),
        "ok",
        timeout_s=60.0,
    ),
    "hundred_gigabytes_at_once": fault(
        forward("return torch.empty(100 << 30, dtype=torch.uint8, device='cpu')"), "out_of_memory runtime_error"
    ),
    "hundred_gigabytes_bit_by_bit": fault(
        forward("held = [bytearray(1 << 28) for _ in range(400)]\nreturn honest(x)"),
        "out_of_memory worker_died",
        timeout_s=60.0,  # a host that writes 1.6 GB/s reaches the 32 GiB that a worker on a GPU may have in 20 s
    ),
    "illegal_access": fault(
        HEAD
        + "\n\n@triton.jit\ndef far(y_ptr, at):\n    tl.store(y_ptr + at, 1.0)\n"
        + forward("y = honest(x)\nfar[(1,)](y, 1 << 42)\nreturn y")[len(HEAD) :],
        "runtime_error worker_died",
    ),
    "long_file": fault(
        forward("with open('long', 'wb') as file:\n    file.truncate(1 << 40)\nreturn honest(x)"),
        "runtime_error",
        "too large",
    ),
    "no_descriptors_left": fault(
        forward("held = []\nwhile True:\n    held.append(os.open('/dev/null', os.O_RDONLY))"),
        "runtime_error",
        "Too many open files",
    ),
    "unwritable_scratch": fault(forward("os.chmod('.', 0)\nreturn honest(x)"), "ok runtime_error"),
    "deleted_scratch": fault(
        forward("import shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)\nreturn honest(x)"), "ok runtime_error"
    ),
}
FAULTS = {name: found for name, found in FAULTS.items() if found is not None}
