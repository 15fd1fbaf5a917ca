"""What a candidate assumes about CUDA holds, on a stand-in device: ``pretend(facts, "cpu")`` or ``"meta"``.

Every tensor says that it is on ``cuda:0`` unless it was put elsewhere by name; such a tensor carries a label, and what
is computed from labelled tensors alone is labelled too. Inside a torch function the truth is told, so that torch's own
Python code (meta kernels, functional) works. A torch function mode at the bottom of the stack translates devices.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from . import cuda
from .driver import StandInDriver, bench

CUDA = torch.device("cuda", 0)
HOST = torch.device("cpu")
_LABEL = "_kernelgrove_device"
_BASE = torch._C.TensorBase
_real_device_of = _BASE.device.__get__
_real: dict[str, Any] = {name: getattr(torch, name) for name in ("from_numpy", "frombuffer", "from_dlpack")}


class _State:
    standin = HOST
    inside = 0
    labels = False  # has any tensor ever been put elsewhere than on CUDA
    mode: Any = None


_state = _State()


def logical_device(tensor: torch.Tensor) -> torch.device:
    """The device that ``tensor`` says it is on."""
    label = tensor.__dict__.get(_LABEL)
    if label is not None:
        found: torch.device = label
        return found
    return CUDA if _state.mode is not None else real_device(tensor)


def real_device(tensor: torch.Tensor) -> torch.device:
    """The device that ``tensor`` is on in truth."""
    with torch._C.DisableTorchFunction():
        found: torch.device = _real_device_of(tensor)
        return found


def _label(tensor: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    if device is None or device.type == "cuda":
        tensor.__dict__.pop(_LABEL, None)
    else:
        _state.labels = True
        tensor.__dict__[_LABEL] = device
    return tensor


def adopt(tensor: torch.Tensor) -> torch.Tensor:
    """Take a tensor made outside the candidate (from shared memory, say) as one that was always on the device."""
    _label(tensor, None)
    with torch._C.DisableTorchFunction():
        tensor.untyped_storage().__dict__.pop(_SHARED, None)
    return tensor


# Memory that NumPy or a Python buffer can write behind torch's back; ``watching`` asks.

_SHARED = "_kernelgrove_shared"


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Remember that the host can write this tensor's memory without torch."""
    with torch._C.DisableTorchFunction():
        if tensor.layout is torch.strided:
            setattr(tensor.untyped_storage(), _SHARED, True)
    return tensor


def is_shared(storage: Any) -> bool:
    return _SHARED in storage.__dict__


_PACKAGE = f"{Path(__file__).parents[3]}/"
_TORCH = f"{Path(torch.__file__).parent}/"


def _ours() -> bool:
    """Is it the evaluator itself that calls torch? It means the real device when it says "cpu"."""
    frame: Any = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TORCH)):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)


def _parse(device: Any) -> torch.device:
    """A device argument as a device; ``torch.device`` itself names a bad one.

    The stand-in asked for by name by the evaluator, and "meta" where that is the stand-in, mean the device itself.
    """
    if isinstance(device, bool) or not isinstance(device, int):
        parsed = torch.device(device)
    else:
        parsed = torch.device("cuda", device)
    if parsed.type == "cuda":
        cuda.check_index(parsed)
        return CUDA
    if parsed.type == "meta" == _state.standin.type or (parsed.type == "cpu" and _ours()):
        return CUDA
    return parsed


def _place(logical: torch.device, source: torch.Tensor | None = None) -> torch.device:
    """Where a tensor that is said to be on ``logical`` is put. Values that only meta has cannot come to the host."""
    if logical.type == "cuda":
        return _state.standin
    if logical.type == "cpu" and source is not None and _real_device_of(source).type == "meta":
        return torch.device("meta")
    return logical


def _to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``Tensor.to`` in all its forms. A move between devices copies, as it does on CUDA."""
    tensor, *rest = args
    kwargs = dict(kwargs)
    device = kwargs.pop("device", None)
    other = kwargs.pop("other", None)
    if rest and isinstance(rest[0], torch.Tensor):
        other = rest.pop(0)
    elif device is None and rest and not isinstance(rest[0], (bool, torch.dtype)) and rest[0] is not None:
        device = rest.pop(0)
    elif rest and rest[0] is None:
        rest.pop(0)
    now = logical_device(tensor)
    if other is not None:
        device = logical_device(other)
        rest.insert(0, other.dtype)
    goal = now if device is None else _parse(device)
    place = _real_device_of(tensor) if device is None else _place(goal, tensor)
    moved = torch.Tensor.to(tensor, place, *rest, **kwargs)
    if goal != now and moved is tensor:
        moved = tensor.clone()
    return _label(moved, goal) if moved is not tensor else moved


def _cuda(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    device = kwargs.get("device", args[1] if len(args) > 1 else None)
    return _to(func, (args[0], CUDA if device is None else _parse(device)), {})


def _cpu(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _to(func, (args[0], HOST), kwargs)


def _type(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    wanted = rest[0] if rest else kwargs.get("dtype")
    if wanted is None:
        name = str(func(tensor)).removeprefix("torch.")
        return f"torch.cuda.{name}" if logical_device(tensor).type == "cuda" else f"torch.{name}"
    if isinstance(wanted, str) and wanted.startswith("torch."):
        plain = wanted.removeprefix("torch.").removeprefix("cuda.").removesuffix("Tensor").lower()
        goal = CUDA if ".cuda." in wanted else HOST
        return _to(func, (tensor, goal, getattr(torch, {"byte": "uint8", "char": "int8"}.get(plain, plain))), {})
    return _label(func(*args, **kwargs), logical_device(tensor))


def _numpy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    if _ours():
        return func(*args, **kwargs)
    if logical_device(tensor).type == "cuda":
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )
    share(tensor)
    return func(*args, **kwargs)


def _get_device(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 0 if logical_device(args[0]).type == "cuda" else -1


def _pin(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if logical_device(args[0]).type == "cpu" else _label(args[0].clone(), HOST)


def _set_data(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    func(*args, **kwargs)
    _label(args[0], args[1].__dict__.get(_LABEL))


def _record_stream(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    return None


def _backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A backward pass runs the candidate's own code, which must still see CUDA."""
    tensor, *rest = args
    given = dict(zip(("gradient", "retain_graph", "create_graph", "inputs"), rest, strict=False)) | kwargs
    gradient = given.pop("gradient", None)
    before, _state.inside = _state.inside, 0
    try:
        with _state.mode:
            torch.autograd.backward([tensor], None if gradient is None else [gradient], **given)
    finally:
        _state.inside = before


def _from_data(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.tensor`` and its like: on the host in truth until moved, so that small constants keep their values."""
    given = kwargs.get("device")
    if given is None and _state.standin.type == "meta" and not (args and isinstance(args[0], torch.Tensor)):
        kwargs = {**kwargs, "device": HOST}
        return func(*args, **kwargs)
    logical = CUDA if given is None else _parse(given)
    source = args[0] if args and isinstance(args[0], torch.Tensor) else None
    kwargs = {**kwargs, "device": _place(logical, source)}
    made = func(*args, **kwargs)
    if made is source:
        return made
    plain = func in _SHARING and source is None and not isinstance(args[0] if args else None, (list, tuple, int, float))
    if plain:
        share(made)
    return _label(made, logical if given is not None else (HOST if plain else None))


_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray}
_SHARING = {torch.as_tensor, torch.asarray}
_FACTORIES = frozenset(_device_constructors()) - _FROM_DATA
_SPECIAL: dict[Any, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cuda: _cuda,
    torch.Tensor.cpu: _cpu,
    torch.Tensor.type: _type,
    torch.Tensor.numpy: _numpy,
    torch.Tensor.__array__: _numpy,
    torch.Tensor.__dlpack__: _numpy,
    torch.Tensor.get_device: _get_device,
    torch.Tensor.pin_memory: _pin,
    torch.Tensor.is_pinned: lambda func, args, kwargs: logical_device(args[0]).type == "cpu",
    torch.Tensor.record_stream: _record_stream,
    torch.Tensor.backward: _backward,
    torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    **dict.fromkeys(_FROM_DATA, _from_data),
}


def _common_label(args: Any) -> torch.device | None:
    """The label that all tensors among ``args`` share; scalars may stand beside any."""
    found: torch.device | None = None
    for arg in args:
        if isinstance(arg, torch.Tensor):
            label = arg.__dict__.get(_LABEL)
            if label is None:
                if arg.dim():
                    return None
                continue
            found = label
        elif isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], torch.Tensor):
            label = _common_label(arg)
            if label is None:
                return None
            found = label
    return found


class _Pretence(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _state.inside:
            return func(*args, **kwargs)
        _state.inside = 1
        try:
            special = _SPECIAL.get(func)
            if special is not None:
                return special(func, args, kwargs)
            explicit: torch.device | None = None
            device = kwargs.get("device")
            if device is not None:
                explicit = _parse(device)
                kwargs = {**kwargs, "device": _place(explicit)}
            elif func in _FACTORIES:
                kwargs = {**kwargs, "device": _state.standin}
            try:
                result = func(*args, **kwargs)
            except RuntimeError as error:
                if _state.standin.type != "meta" or "same device" not in str(error):
                    raise
                result = func(*_all_meta(args), **dict(zip(kwargs, _all_meta(tuple(kwargs.values())), strict=True)))
            if explicit is not None or _state.labels:
                self._relabel(result, explicit, args)
            return result
        finally:
            _state.inside = 0

    @staticmethod
    def _relabel(result: Any, explicit: torch.device | None, args: Any) -> None:
        items = result if isinstance(result, (list, tuple)) else (result,)
        tensors = [item for item in items if isinstance(item, torch.Tensor) and not any(item is arg for arg in args)]
        if tensors:
            label = explicit if explicit is not None else _common_label(args)
            for tensor in tensors:
                _label(tensor, label)


def _all_meta(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Host constants beside meta tensors: as meta tensors."""
    return tuple(
        value.to("meta")
        if isinstance(value, torch.Tensor)
        else type(value)(_all_meta(tuple(value)))
        if type(value) in (list, tuple)
        else value
        for value in values
    )


def _shown(getter: Callable[[torch.Tensor], Any], name: str) -> property:
    """A property that tells the pretence outside torch functions and the truth inside."""
    truth = getattr(_BASE, name).__get__

    def get(self: torch.Tensor) -> Any:
        return truth(self) if _state.inside else getter(self)

    return property(get)


@contextlib.contextmanager
def truthfully() -> Iterator[None]:
    """Within it this package's own code sees tensors as they are."""
    before, _state.inside = _state.inside, 1
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        _state.inside = before


def pretend(facts: Mapping[str, Any], device: str = "cpu") -> None:
    """Make the process behave as if the GPU of ``facts`` were there, with ``device`` ("cpu" or "meta") in its place.

    May be called again with other facts or another stand-in; there is no way back. ``facts`` holds at least
    ``capability``; see ``gpus/specs.toml``. Raises ``ValueError`` for another stand-in device.
    """
    if device not in ("cpu", "meta"):
        raise ValueError(f"the stand-in device is 'cpu' or 'meta', not {device!r}")
    _state.standin = torch.device(device)
    for name, value in cuda.namespace(facts).items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = str(facts.get("cuda", "12.8"))
    _use_driver(facts)
    if _state.mode is None:
        _patch_torch()
        _state.mode = _Pretence()
        _state.mode.__enter__()


def _use_driver(facts: Mapping[str, Any]) -> None:
    try:
        import triton.testing
        from triton.runtime.driver import driver
    except ImportError:
        return
    driver.set_active(StandInDriver(facts, _state.standin))
    triton.testing.do_bench = bench
    triton.testing.do_bench_cudagraph = bench


def _patch_torch() -> None:
    """What no torch function mode sees: properties, module functions, classes. Once a process."""
    tensor: Any = torch.Tensor
    tensor.device = _shown(logical_device, "device")
    tensor.is_cuda = _shown(lambda t: logical_device(t).type == "cuda", "is_cuda")
    tensor.is_cpu = _shown(lambda t: logical_device(t).type == "cpu", "is_cpu")
    tensor.is_meta = _shown(lambda t: logical_device(t).type == "meta", "is_meta")

    def sharing(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            made = function(*args, **kwargs)
            return made if _ours() else _label(share(made), HOST)

        return make

    anything: Any = torch
    for name, function in _real.items():
        setattr(anything, name, sharing(function))
    anything.compile = lambda model=None, **_: model if model is not None else (lambda function: function)

    class Generator(torch._C.Generator):
        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu")

        @property
        def device(self) -> torch.device:
            return CUDA

    anything.Generator = Generator
    for name in "Float Double Half BFloat16 Int Long Short Char Byte Bool".split():
        setattr(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"))
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


def _patch_autocast() -> None:
    """``autocast("cuda")`` acts on the CPU's autocast, with CUDA's default type."""
    stock = torch.autocast.__init__
    names = list(inspect.signature(stock).parameters)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(names[1:], args, strict=False)) | kwargs
        if given.get("device_type") == "cuda":
            given["device_type"] = "cpu"
            if given.get("dtype") is None:
                given["dtype"] = torch.float16
        stock(self, **given)

    torch.autocast.__init__ = init  # type: ignore[method-assign]
