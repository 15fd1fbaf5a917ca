"""What the architecture of a target wants of a kernel, from ``architectures.toml``: a table an ``arch``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from kernelgrove.engine.gpus.specs import GpuSpec


@dataclass(frozen=True)
class Advice:
    """*triton* and *cuda*: lines for that backend; *both*: for either; *products*: for matrix products in Triton."""

    both: tuple[str, ...] = ()
    triton: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    products: tuple[str, ...] = ()


def advice(gpu: GpuSpec) -> Advice:
    """What is known of *gpu*'s architecture; of one that has no table, nothing beyond its figures."""
    table: Mapping[str, Any] = _tables().get(gpu.arch, {})
    return Advice(*(tuple(table.get(key, ())) for key in ("both", "triton", "cuda", "products")))


@cache
def _tables() -> Mapping[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("architectures.toml").read_text(encoding="utf-8"))
