"""Build a problem's reference for tracing: on the meta device, so that full size costs no memory.

The reference is the user's own file and is trusted, as the judge trusts it; a candidate never comes here.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernelgrove.model import digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Reference:
    """A constructed ``Model`` and one set of inputs, all on ``device``."""

    model: torch.nn.Module
    inputs: tuple[Any, ...]
    device: str


def load(source: str, mode: str, device: str) -> Reference:
    """Execute *source* and construct its model and inputs on *device* (``meta`` or ``cpu``).

    Device arguments that name CUDA mean *device* here. Raises whatever the reference raises.
    """
    import torch

    name = f"_kernelgrove_reference_{digest(source)[:12]}"
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(device), redirect(device):
            exec(compile(source, f"<{name}>", "exec"), module.__dict__)
            arguments = module.get_init_inputs() if hasattr(module, "get_init_inputs") else []
            model = module.Model(*arguments)
            inputs = module.get_inputs()
            model = model.to(device)
            model.train(mode != "eval")
            moved = tuple(x.to(device) if isinstance(x, torch.Tensor) else x for x in inputs)
    finally:
        sys.modules.pop(name, None)
    return Reference(model, moved, device)


def redirect(device: str) -> Any:
    """A mode under which ``device="cuda"``, ``.cuda()`` and ``.to("cuda")`` mean *device*."""
    import torch
    from torch.overrides import TorchFunctionMode

    def mapped(value: Any) -> Any:
        is_device = isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))
        return torch.device(device) if is_device else value

    class Redirect(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = {key: mapped(value) if key == "device" else value for key, value in (kwargs or {}).items()}
            if func is torch.Tensor.cuda:
                return args[0].to(device)
            if func is torch.Tensor.to:
                args = (args[0], *(mapped(value) for value in args[1:]))
            return func(*args, **kwargs)

    return Redirect()
