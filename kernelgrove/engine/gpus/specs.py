"""The GPUs KernelGrove knows, from ``specs.toml``; a file of the user's own adds to them or overrides them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kernelgrove.engine.own_file import own_file, own_tables
from kernelgrove.errors import UsageError

#: Names a file of GPUs of the user's own.
VARIABLE = "KERNELGROVE_GPUS"
OWN_FILE = Path("~/.config/kernelgrove/gpus.toml")


@dataclass(frozen=True)
class GpuSpec:
    """One GPU. Sizes in KiB, MiB or GB as named, rates in 1e9 (bandwidth) and 1e12 (arithmetic) a second.

    Tensor-core rates are dense; None where the chip has no such unit.
    """

    name: str
    vendor_name: str
    matches: tuple[str, ...]
    backend: str
    architecture: str
    arch: str
    capability: tuple[int, int]
    memory_gb: float
    bandwidth_gbs: float
    l2_mb: float
    sms: int
    shared_kb_per_sm: int
    shared_kb_per_block: int
    registers_per_sm: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    boost_clock_ghz: float
    fp32_tflops: float
    fp64_tflops: float
    tdp_w: int
    tf32_tflops: float | None = None
    fp16_tflops: float | None = None
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    int8_tops: float | None = None
    sources: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """This spec as plain JSON, for a worker that has none of our modules but the evaluator's."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


_FIELDS = {field.name: field for field in fields(GpuSpec)}
_OPTIONAL = {"tf32_tflops", "fp16_tflops", "bf16_tflops", "fp8_tflops", "int8_tops", "sources", "matches"}
_TEXT = {"name", "vendor_name", "backend", "architecture", "arch"}
_LISTS = {"matches", "sources", "capability"}


def load(extra: Path | None = None) -> dict[str, GpuSpec]:
    """All known GPUs by name, in the order of the file, those of *extra* (same format) last.

    *extra* is the user's own file: by default the one that KERNELGROVE_GPUS names, else
    ``~/.config/kernelgrove/gpus.toml`` where there is one. A table in it under a known name needs only the keys it
    changes. Raises UsageError when it cannot be read, is not TOML, or has a table with an unknown, missing or
    ill-typed key.
    """
    specs = dict(_shipped())
    extra = extra or own_file(VARIABLE, OWN_FILE)
    if extra is None:
        return specs
    for name, table in own_tables(extra, "GPU", "Write one table a GPU, such as [B200].").items():
        known = specs.get(_normal(name))
        base: dict[str, Any] = known.facts() if known else {}
        specs[_normal(name)] = _spec(_normal(name), {**base, **table}, str(extra))
    return specs


def find(name: str, extra: Path | None = None) -> GpuSpec:
    """The spec called *name*; case, spaces and dashes do not matter, and a vendor's name is accepted too.

    Raises UsageError that lists the nearest names when there is none.
    """
    specs = load(extra)
    spec = specs.get(_normal(name)) or match(name, specs)
    if spec is not None:
        return spec
    near = difflib.get_close_matches(_normal(name), specs, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(specs)}."
    raise UsageError(f"There is no GPU called {name!r}.", hint)


def match(vendor_name: str, specs: Mapping[str, GpuSpec] | None = None) -> GpuSpec | None:
    """The spec of a GPU that calls itself *vendor_name* (as nvidia-smi or torch print it), or None."""
    wanted = vendor_name.strip().casefold()
    for spec in (specs if specs is not None else load()).values():
        if wanted in (candidate.casefold() for candidate in (spec.vendor_name, *spec.matches)):
            return spec
    return None


def _normal(name: str) -> str:
    return name.strip().upper().replace("-", "_").replace(" ", "_")


@cache
def _shipped() -> dict[str, GpuSpec]:
    text = resources.files(__package__).joinpath("specs.toml").read_text(encoding="utf-8")
    return {name: _spec(name, table, "specs.toml") for name, table in tomllib.loads(text).items()}


def _spec(name: str, table: Mapping[str, Any], where: str) -> GpuSpec:
    """Check one table and freeze it. Raises UsageError naming the file, the GPU and the key."""
    values: dict[str, Any] = {"matches": (), "sources": (), **table, "name": name}
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise UsageError(f"{where}: GPU {name} has an unknown key {unknown[0]!r}.", f"Keys are {', '.join(_FIELDS)}.")
    if missing := [key for key in _FIELDS if key not in values and key not in _OPTIONAL]:
        raise UsageError(f"{where}: GPU {name} lacks {', '.join(missing)}.", "Add them from the vendor's datasheet.")
    for key, value in values.items():
        if value is None and key in _OPTIONAL:
            continue
        if key in _LISTS:
            good = isinstance(value, list | tuple) and (key != "capability" or len(value) == 2)
            values[key] = tuple(value) if good else value
        elif key in _TEXT:
            good = isinstance(value, str)
        else:
            good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not good:
            raise UsageError(f"{where}: GPU {name} has {key} = {value!r}.", "See specs.toml for the type and unit.")
    return GpuSpec(**values)
