"""A GPU's two nurseries: for workers on it, and for dry ones that compile without it. They are started before the judge
imports torch, which takes them as long as it takes itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .. import sandbox
from .standby import Standby

_HOST_MEMORY = 32 << 30  # what CUDA reserves on top of a worker's own needs fits in it (tried on an H200)
_DRY_MEMORY = 8 << 30  # there are no tensors of any size


@dataclass(frozen=True)
class Nurseries:
    cuda: Standby
    dry: Standby


def start(capability: Sequence[int] | None, allow_unsafe: bool) -> Nurseries:
    """*capability*: the GPU's compute capability, for which extensions are compiled; None where nobody knows it yet."""
    policy = sandbox.Policy(
        read=sandbox.default_read_paths(),
        scratch="",
        gpu=True,
        uid=65534 if os.geteuid() == 0 else None,
        memory_bytes=_HOST_MEMORY,
        cpu_s=3600,
        file_bytes=4 << 30,
        open_files=4096,
        allow_unsafe=allow_unsafe,
        scratch_bytes=8 << 30,
    )
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    environment |= {"TORCHINDUCTOR_WORKER_START": "subprocess", "MAX_JOBS": "4"}
    if capability is not None:
        environment["TORCH_CUDA_ARCH_LIST"] = ".".join(map(str, capability))
    return Nurseries(Standby("cuda", policy, environment), dry_nursery(policy, environment))


def dry_nursery(policy: sandbox.Policy, environment: Mapping[str, str]) -> Standby:
    """*policy* is a worker's; the dry ones get no GPU."""
    return Standby("compile", replace(policy, gpu=False, memory_bytes=_DRY_MEMORY), environment)
