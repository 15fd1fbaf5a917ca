"""What a candidate assumes about CUDA holds, on a stand-in device: ``pretend(facts, "cpu")`` or ``"meta"``.

Every tensor says that it is on ``cuda:0`` unless it was put elsewhere by name; such a tensor carries a label, and what
is computed from labelled tensors alone is labelled too. Inside a torch function the truth is told, so that torch's own
Python code (meta kernels, functional) works. A torch function mode at the bottom of the stack translates devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from . import cuda
from .driver import StandInDriver, bench
from .labels import CUDA, HOST, LABEL, adopt, label, logical_device, ours, real_device, real_device_of, share, state
from .patches import patch_torch

__all__ = ["adopt", "logical_device", "pretend", "real_device"]


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
    if parsed.type == "meta" == state.standin.type or (parsed.type == "cpu" and ours()):
        return CUDA
    return parsed


def _place(logical: torch.device, source: torch.Tensor | None = None) -> torch.device:
    """Where a tensor that is said to be on ``logical`` is put. Values that only meta has cannot come to the host."""
    if logical.type == "cuda":
        return state.standin
    if logical.type == "cpu" and source is not None and real_device_of(source).type == "meta":
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
    place = real_device_of(tensor) if device is None else _place(goal, tensor)
    moved = torch.Tensor.to(tensor, place, *rest, **kwargs)
    if goal != now and moved is tensor:
        moved = tensor.clone()
    return label(moved, goal) if moved is not tensor else moved


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
    return label(func(*args, **kwargs), logical_device(tensor))


def _numpy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    if ours():
        return func(*args, **kwargs)
    if logical_device(tensor).type == "cuda":
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
            "memory first."
        )
    share(tensor)
    return func(*args, **kwargs)


def _get_device(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 0 if logical_device(args[0]).type == "cuda" else -1


def _pin(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if logical_device(args[0]).type == "cpu" else label(args[0].clone(), HOST)


def _set_data(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    func(*args, **kwargs)
    label(args[0], args[1].__dict__.get(LABEL))


def _from_data(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``torch.tensor`` and its like: on the host in truth until moved, so that small constants keep their values."""
    given = kwargs.get("device")
    if given is None and state.standin.type == "meta" and not (args and isinstance(args[0], torch.Tensor)):
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
    return label(made, logical if given is not None else (HOST if plain else None))


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
    torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    **dict.fromkeys(_FROM_DATA, _from_data),
}


def _common_label(args: Any) -> torch.device | None:
    """The label that all tensors among ``args`` share; scalars may stand beside any."""
    found: torch.device | None = None
    for arg in args:
        if isinstance(arg, torch.Tensor):
            own = arg.__dict__.get(LABEL)
            if own is None:
                if arg.dim():
                    return None
                continue
            found = own
        elif isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], torch.Tensor):
            own = _common_label(arg)
            if own is None:
                return None
            found = own
    return found


class _Pretence(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if state.inside:
            return func(*args, **kwargs)
        state.inside = 1
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
                kwargs = {**kwargs, "device": state.standin}
            try:
                result = func(*args, **kwargs)
            except RuntimeError as error:
                if state.standin.type != "meta" or "same device" not in str(error):
                    raise
                result = func(*_all_meta(args), **dict(zip(kwargs, _all_meta(tuple(kwargs.values())), strict=True)))
            if explicit is not None or state.labels:
                self._relabel(result, explicit, args)
            return result
        finally:
            state.inside = 0

    @staticmethod
    def _relabel(result: Any, explicit: torch.device | None, args: Any) -> None:
        items = result if isinstance(result, (list, tuple)) else (result,)
        tensors = [item for item in items if isinstance(item, torch.Tensor) and not any(item is arg for arg in args)]
        if tensors:
            shown = explicit if explicit is not None else _common_label(args)
            for tensor in tensors:
                label(tensor, shown)


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


def pretend(facts: Mapping[str, Any], device: str = "cpu") -> None:
    """Make the process behave as if the GPU of ``facts`` were there, with ``device`` ("cpu" or "meta") in its place.

    May be called again with other facts or another stand-in; there is no way back. ``facts`` holds at least
    ``capability``; see ``gpus/specs.toml``. Raises ``ValueError`` for another stand-in device.
    """
    if device not in ("cpu", "meta"):
        raise ValueError(f"the stand-in device is 'cpu' or 'meta', not {device!r}")
    state.standin = torch.device(device)
    for name, value in cuda.namespace(facts).items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = str(facts.get("cuda", "12.8"))
    _use_driver(facts)
    if state.mode is None:
        patch_torch()
        state.mode = _Pretence()
        state.mode.__enter__()


def _use_driver(facts: Mapping[str, Any]) -> None:
    try:
        import triton.testing
        from triton.runtime.driver import driver
    except ImportError:
        return
    driver.set_active(StandInDriver(facts, state.standin))
    triton.testing.do_bench = bench
    triton.testing.do_bench_cudagraph = bench
