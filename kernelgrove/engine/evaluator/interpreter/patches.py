"""What no torch function mode sees of torch: properties, module functions, classes. Patched once a process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction

from . import cuda
from .labels import CUDA, HOST, label, logical_device, ours, share, state


def _shown(getter: Callable[[torch.Tensor], Any], name: str) -> property:
    """A property that tells the pretence outside torch functions and the truth inside."""
    truth = getattr(torch._C.TensorBase, name).__get__

    def get(self: torch.Tensor) -> Any:
        return truth(self) if state.inside else getter(self)

    return property(get)


def patch_torch() -> None:
    """Patch ``torch`` for the life of the process; ``labels.state.mode`` is entered by the caller."""
    tensor: Any = torch.Tensor
    tensor.device = _shown(logical_device, "device")
    tensor.is_cuda = _shown(lambda t: logical_device(t).type == "cuda", "is_cuda")
    tensor.is_cpu = _shown(lambda t: logical_device(t).type == "cpu", "is_cpu")
    tensor.record_stream = lambda self, stream: None  # whose argument torch checks before a mode sees it
    tensor.is_meta = _shown(lambda t: logical_device(t).type == "meta", "is_meta")

    def sharing(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            made = function(*args, **kwargs)
            return made if ours() else label(share(made), HOST)

        return make

    anything: Any = torch
    generator: Any = torch._C.Generator
    for name in ("from_numpy", "frombuffer", "from_dlpack"):
        setattr(anything, name, sharing(getattr(torch, name)))
    anything.compile = lambda model=None, **_: model if model is not None else (lambda function: function)

    class Generator(generator):  # type: ignore[misc]
        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu")

        @property
        def device(self) -> torch.device:
            return CUDA

    anything.Generator = Generator
    for name in "Float Double Half BFloat16 Int Long Short Char Byte Bool".split():
        setattr(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
    _patch_backward()
    _patch_autocast()
    for backend, name, answer in (
        (torch.backends.cuda, "is_built", lambda: True),
        (torch.backends.cudnn, "is_available", lambda: True),
        (torch.backends.cudnn, "version", lambda: 91000),
        (torch.backends.cudnn, "is_acceptable", lambda tensor: False),
    ):
        setattr(backend, name, answer)
    anything.cuda.nvtx = cuda.tools()
    anything.cuda.default_generators = (torch.default_generator,)
    accelerator = getattr(torch, "accelerator", None)
    if accelerator is not None:
        accelerator.is_available = lambda: True
        accelerator.current_accelerator = lambda check_available=False: torch.device("cuda")
        accelerator.device_count = lambda: 1
        accelerator.current_device_index = lambda: 0
        accelerator.synchronize = lambda device=None: None


def _patch_backward() -> None:
    """A backward pass is one torch function, inside which the candidate's own ``backward`` must still see CUDA."""
    stock: Any = BackwardCFunction.apply

    def apply(self: Any, *args: Any) -> Any:
        before, state.inside = state.inside, 0
        try:
            with state.mode:
                return stock(self, *args)
        finally:
            state.inside = before

    BackwardCFunction.apply = apply  # type: ignore[method-assign]


def _patch_autocast() -> None:
    """``autocast("cuda")`` acts on the CPU's autocast, with CUDA's default type."""
    stock: Any = torch.autocast.__init__
    names = list(inspect.signature(stock).parameters)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(names[1:], args, strict=False)) | kwargs
        if given.get("device_type") == "cuda":
            given["device_type"] = "cpu"
            if given.get("dtype") is None:
                given["dtype"] = torch.float16
        stock(self, **given)

    torch.autocast.__init__ = init  # type: ignore[method-assign]
