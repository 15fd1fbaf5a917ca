"""``kernelgrove doctor``: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import typer

from ..errors import KernelGroveError, NotFound
from . import options

#: Bounds of the sandbox that is tried: small enough for any machine that runs candidates at all.
_MEMORY, _FILE, _CPU_S = 1 << 30, 1 << 20, 60


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``cure`` is what to do where it is not ``ok``; a *required* one that is not sets the
    exit code."""

    group: str
    name: str
    ok: bool
    required: bool
    found: str
    cure: str = ""


def doctor(db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Show what works here, and what to do about the rest.

    Packages, devices, sandbox layers, proposers, the database. Exit code 3 when something required is missing.
    """
    with options.output(json) as out:
        checks = [*_packages(), *_devices(), *_sandbox(), *_proposers(), _database(db)]
        failed = [check for check in checks if check.required and not check.ok]
        if json:
            out.emit({"ok": not failed, "checks": [asdict(check) for check in checks]})
        else:
            _show(checks)
            count = f"{len(failed)} required {'part is' if len(failed) == 1 else 'parts are'} missing."
            print(f"\n{count if failed else 'Everything required is here.'}")
    if failed:
        raise typer.Exit(3)


def _packages() -> Iterator[Check]:
    version = platform.python_version()
    yield Check("packages", "python", sys.version_info >= (3, 11), True, version, "Install Python 3.11 or newer.")
    for name in ("torch", "triton", "numpy"):
        try:
            found = metadata.version(name)
            __import__(name)
        except metadata.PackageNotFoundError:
            yield Check("packages", name, False, True, "not installed", f"pip install {name}")
        except Exception as error:  # a broken shared library shows as almost anything
            said = f"{found}, but it cannot be imported: {type(error).__name__}: {error}"
            yield Check("packages", name, False, True, said, f"pip install --force-reinstall {name}")
        else:
            yield Check("packages", name, True, True, found)


def _devices() -> Iterator[Check]:
    from ..engine.gpus import detect

    found = detect.detect()
    usable, why = _torch_sees()
    for gpu in found.gpus:
        name = f"cuda:{gpu.index}"
        what = f"{gpu.name}, driver {gpu.driver or 'unknown'}, target {gpu.spec or 'unknown'}"
        if gpu.index >= usable:
            yield Check("devices", name, False, False, f"{what}; torch cannot use it: {why}", "Install torch for CUDA.")
        elif gpu.spec is None:
            yield Check(
                "devices", name, False, False, what, "Name the nearest GPU of `kernelgrove gpus` with --target."
            )
        else:
            yield Check("devices", name, True, False, what)
    if not found.gpus:
        cure = "Nothing to do where there is no GPU: kernels are checked in the interpreter and projected."
        yield Check("devices", "cuda", False, False, found.reason, cure)
    cores = len(os.sched_getaffinity(0))
    yield Check("devices", "cpu", True, False, f"{cores} cores: Triton's interpreter, figures are projected")


def _torch_sees() -> tuple[int, str]:
    """How many GPUs torch can use, and why there are not more."""
    try:
        import torch
    except Exception:
        return 0, "it cannot be imported"
    if torch.version.cuda is None:
        return 0, f"torch {torch.__version__} is built without CUDA"
    return torch.cuda.device_count(), f"torch {torch.__version__} (CUDA {torch.version.cuda}) does not see it"


def _sandbox() -> Iterator[Check]:
    from ..engine.evaluator import sandbox

    with tempfile.TemporaryDirectory(prefix="kernelgrove-") as scratch:
        policy = sandbox.Policy(
            read=sandbox.default_read_paths(),
            scratch=scratch,
            gpu=False,
            uid=65534 if os.geteuid() == 0 else None,
            memory_bytes=_MEMORY,
            cpu_s=_CPU_S,
            file_bytes=_FILE,
            open_files=256,
        )
        for layer in sandbox.probe(policy):
            state = f"{'active' if layer.active else 'missing'}{f': {layer.why}' if layer.why else ''}"
            cure = (
                "Candidates run only with --allow-unsafe." if layer.required else "Candidates run without this layer."
            )
            yield Check("sandbox", layer.name, layer.active, layer.required, state, "" if layer.active else cure)


def _proposers() -> Iterator[Check]:
    from ..engine.proposers.base import PROVIDERS

    written = ", ".join(name for name, _ in PROVIDERS.values())
    yield Check("proposers", "--model", bool(PROVIDERS), True, written)


def _database(url: str) -> Check:
    from ..storage import open_store

    try:
        open_store(url).close()
    except NotFound:
        return Check("database", url, True, True, "not there yet; the first run makes it")
    except KernelGroveError as error:
        return Check("database", url, False, True, error.cause, error.cure)
    return Check("database", url, True, True, "can be read")


def _show(checks: list[Check]) -> None:
    from rich.text import Text

    from ..render import put, table

    rows: list[tuple[Any, ...]] = []
    for check in checks:
        mark, style = ("ok", "green") if check.ok else ("missing", "red") if check.required else ("no", "yellow")
        rows.append((check.group, Text(mark, style=style), check.name, check.found))
    put(table(("", "", "", ""), rows))
    for check in (c for c in checks if not c.ok and c.cure):
        print(f"\n{check.name}: {check.cure}")
