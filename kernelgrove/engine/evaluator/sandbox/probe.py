"""What the sandbox is worth on this machine: a nursery in small enters it, and forbidden things are tried inside."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from .environment import clean_environment
from .layers import REQUIRED, Layer, Policy, enter

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; main()"
_TIMEOUT_S = 30.0


def probe(policy: Policy) -> tuple[Layer, ...]:
    """Start a clean process as a nursery is started, fork, enter *policy* there, try what it should forbid.

    Never raises for a layer: every name of the report comes back, ``missing`` with the reason where need be. The
    policy's scratch folder must exist.
    """
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        canary.write_text("a file that a worker must not read")
        Path(folder).chmod(0o755)
        canary.chmod(0o644)
        question = json.dumps({"policy": asdict(replace(policy, allow_unsafe=True)), "canary": str(canary)})
        try:
            answer = subprocess.run(
                [sys.executable, "-I", "-c", _START.format(module=__name__), json.dumps(sys.path), question],
                env=clean_environment(policy.scratch),
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            return tuple(Layer(**layer) for layer in json.loads(answer.stdout))
        except subprocess.TimeoutExpired:
            why = f"the probe did not answer within {_TIMEOUT_S:.0f} s"
        except (ValueError, TypeError):
            lines = answer.stderr.decode(errors="replace").strip().splitlines()
            why = f"the probe failed: {lines[-1] if lines else f'status {answer.returncode}'}"
    return tuple(Layer(name, required, False, why) for name, required in REQUIRED.items())


def main() -> None:
    """The small nursery: forks a worker, passes its report on to standard output."""
    question = json.loads(sys.argv[2])
    data = question["policy"]
    policy = Policy(**{**data, "read": tuple(data["read"])})
    reading, writing = os.pipe()
    parent = os.getpid()
    worker = os.fork()
    if worker == 0:
        try:
            layers = enter(policy, keep_fds=[writing], log_fd=os.dup(2), parent=parent)
            report = json.dumps([layer.to_json() for layer in _tried(layers, policy, question["canary"])])
            with os.fdopen(writing, "w") as pipe:
                pipe.write(report)
        except BaseException:
            traceback.print_exc()  # the probe shows its last line
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        sys.stdout.write(pipe.read())
    os.waitpid(worker, 0)


def _tried(layers: tuple[Layer, ...], policy: Policy, canary: str) -> list[Layer]:
    """The report, with a layer set to missing where something that it should stop works."""
    broken = {
        "landlock_files": _reads(canary) or _writes(policy.read),
        "network_namespace": _sees_interfaces(),
        "limits": _writes_too_much(policy),
        "memory_limit": _allocates_too_much(policy),
        "scratch": _scratch_fails(policy.scratch),
        "user": _reads(f"/proc/{os.getppid()}/environ"),
    }
    return [
        replace(layer, active=False, why=f"claimed, but {broken[layer.name]}")
        if layer.active and broken.get(layer.name)
        else layer
        for layer in layers
    ]


def _reads(path: str) -> str:
    try:
        Path(path).read_bytes()
    except OSError:
        return ""
    return f"{path} could be read"


def _writes(folders: tuple[str, ...]) -> str:
    for folder in folders:
        path = Path(folder) / f".kernelgrove-probe-{os.getpid()}"
        try:
            path.touch()
        except OSError:
            continue
        path.unlink()
        return f"a file could be made in {folder}"
    return ""


def _sees_interfaces() -> str:
    try:
        names = [name for _, name in socket.if_nameindex() if name != "lo"]
    except OSError:
        return ""  # no socket at all
    return f"it sees {', '.join(names)}" if names else ""


def _writes_too_much(policy: Policy) -> str:
    try:
        with tempfile.TemporaryFile(dir=policy.scratch) as file:
            file.truncate(policy.file_bytes + 1)
    except OSError:
        return ""
    return "a longer file could be made"


def _allocates_too_much(policy: Policy) -> str:
    if policy.memory_bytes is None:
        return ""
    try:
        mmap.mmap(-1, policy.memory_bytes + (1 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, ValueError):
        return ""
    return "more could be allocated"


def _scratch_fails(scratch: str) -> str:
    path = Path(scratch) / "probe"
    try:
        path.write_text("x")
        path.unlink()
    except OSError as error:
        return f"it cannot be written: {error.strerror}"
    return ""
