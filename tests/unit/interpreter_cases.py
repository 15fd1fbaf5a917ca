"""Runs ``case_*`` functions in an interpreting process, each in a fork of its own; prints one JSON line a case.

Started by ``test_interpreter.py`` with ``TRITON_INTERPRET=1``: the interpreter is chosen when Triton is imported, so
none of this can run in the process that pytest runs in.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

FACTS = {
    "name": "H100",
    "arch": "sm_90",
    "capability": [9, 0],
    "memory_gb": 80,
    "sms": 132,
    "shared_kb_per_block": 227,
    "l2_mb": 50,
    "max_threads_per_sm": 2048,
    "registers_per_sm": 65536,
    "clock_ghz": 1.98,
}


def run_case(function) -> str | None:
    """The traceback of a failed case; ``None`` for one that holds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = ""
        try:
            function()
        except BaseException:
            text = traceback.format_exc()
        os.write(writer, (text[-20_000:] or "ok").encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return None if said == "ok" else said or "the case's process died"


def main(names: list[str]) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import torch

    from kernelgrove.engine.evaluator.interpreter.adapter import install
    from kernelgrove.engine.evaluator.interpreter.devices import pretend

    torch.set_num_threads(1)
    install()
    pretend(FACTS, "cpu")
    for name in names:
        module = importlib.import_module(name)
        for attribute, function in list(vars(module).items()):
            if attribute.startswith("case_"):
                print(json.dumps([f"{name}.{attribute}", run_case(function)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
