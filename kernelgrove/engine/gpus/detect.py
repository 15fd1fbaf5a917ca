"""Which GPUs this machine has, asked of the driver: importing torch only to count devices takes seconds."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kernelgrove.engine.gpus import specs

#: nvidia-smi wakes a GPU without persistence mode, which can take several seconds.
TIMEOUT_S = 20.0
_QUERY = "index,name,memory.total,driver_version,compute_cap"


@dataclass(frozen=True)
class Detected:
    """One GPU: *spec* is its name in specs.toml, None for one we have no figures for; memory in MiB."""

    index: int
    name: str
    driver: str
    memory_mb: int
    spec: str | None
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Detection:
    """All GPUs found; *reason* says why there are none (empty when there are some)."""

    gpus: tuple[Detected, ...]
    reason: str = ""


def detect(smi: str | None = None, proc: Path = Path("/proc/driver/nvidia")) -> Detection:
    """Ask ``nvidia-smi`` (*smi*, or the one on the path), then the kernel driver's files. Never raises."""
    path = smi or shutil.which("nvidia-smi")
    reason = "nvidia-smi is not installed"
    if path is not None:
        gpus, reason = _ask(path)
        if gpus:
            return Detection(gpus)
    gpus = _read_proc(proc)
    if gpus:
        return Detection(gpus)
    if not proc.exists():
        return Detection((), f"No NVIDIA driver is loaded ({reason}).")
    return Detection((), f"The NVIDIA driver is loaded but shows no GPU ({reason}).")


def _ask(path: str) -> tuple[tuple[Detected, ...], str]:
    try:
        done = subprocess.run(
            [path, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi did not answer within {TIMEOUT_S:.0f} s"
    except OSError as error:
        return (), f"nvidia-smi could not be started: {error.strerror}"
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        return (), f"nvidia-smi failed: {said[0] if said else f'exit code {done.returncode}'}"
    gpus = tuple(gpu for row in csv.reader(done.stdout.splitlines()) if (gpu := _parse(row)) is not None)
    return gpus, "" if gpus else "nvidia-smi lists no GPU"


def _parse(row: list[str]) -> Detected | None:
    """One line of nvidia-smi; fields it does not know are ``[N/A]`` or ``[Not Supported]``."""
    cells = [cell.strip() for cell in row]
    if len(cells) != 5 or not cells[0].isdigit():
        return None
    index, name, memory, driver, capability = cells
    major, _, minor = capability.partition(".")
    return Detected(
        index=int(index),
        name=name,
        driver=driver,
        memory_mb=int(memory) if memory.isdigit() else 0,
        spec=_spec_name(name),
        capability=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
    )


def _read_proc(proc: Path) -> tuple[Detected, ...]:
    """``gpus/<bus id>/information`` holds ``Model:`` and ``Device Minor:``; it has no memory size."""
    driver = ""
    try:
        words = (proc / "version").read_text().split()
        driver = next((word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()), "")
    except OSError:
        pass
    found: list[Detected] = []
    for information in sorted(proc.glob("gpus/*/information")):
        try:
            lines = information.read_text().splitlines()
        except OSError:
            continue
        entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if name := entries.get("Model"):
            found.append(Detected(len(found), name, driver, 0, _spec_name(name)))
    return tuple(found)


def _spec_name(name: str) -> str | None:
    spec = specs.match(name)
    return spec.name if spec else None
