"""What a dry launch is given: a problem's arguments on the meta device, at the size that is timed."""

from __future__ import annotations

from typing import Any

import torch

from kernelgrove.model import Instance
from kernelgrove.problems.reference import Reference

from ..checking.tensors import is_tensor
from ..wire.arena import Spec
from ..wire.structure import pack


class Dry:
    """Raises whatever the reference's own code raises on meta tensors."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.reference = Reference(instance.source, instance.name, instance.mode)
        self.given = self.reference.inputs(0, "meta")
        self.tensors: list[torch.Tensor] = []
        self._inputs_packed = pack(self.given, is_tensor, self.tensors)
        init: list[torch.Tensor] = []
        self._init_packed = pack(self.reference.init_inputs(), is_tensor, init)
        self._fields = {
            "init": [_described(tensor) for tensor in init],
            "inputs": [_described(tensor) for tensor in self.tensors],
            "seed": 0,
            "mode": instance.mode,
        }

    def request(self, code: str) -> tuple[dict[str, Any], list[bytes | int]]:
        """Fields and blobs of a ``compile`` or ``count`` request for *code*."""
        return self._fields, [code.encode(), self._init_packed, self._inputs_packed]


def _described(tensor: torch.Tensor) -> list[Any]:
    spec = Spec.of(tensor)
    return [list(spec.shape), list(spec.strides), spec.dtype]
