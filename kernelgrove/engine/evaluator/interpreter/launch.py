"""A launch in the interpreter: arguments to scalars and pointers, then every program of the grid, one after another."""

from __future__ import annotations

import builtins
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl

from . import internals, labels
from .errors import explain
from .internals import Handle
from .memory import RealMemory, Region

GRID_LIMITS = (2**31 - 1, 65535, 65535)  # CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"

Listener = Callable[[str, Sequence[Region]], None]


class Launched:
    """What ``kernel[grid](...)`` and ``kernel.warmup(...)`` give back: enough of a compiled kernel to be asked about.

    Registers and shared memory are not known before a compile; the figures are those of a small kernel, so that
    occupancy arithmetic on them works.
    """

    n_regs = 32
    n_spills = 0

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        self.name = function.__name__
        self.function = function
        self.metadata = SimpleNamespace(
            name=self.name,
            shared=1024,
            num_warps=options.get("num_warps", 4),
            num_stages=options.get("num_stages", 3),
            num_ctas=options.get("num_ctas", 1),
        )

    def _init_handles(self) -> None:
        """Nothing to load."""

    @property
    def asm(self) -> dict[str, str]:
        raise RuntimeError(f"{self.name} runs in the interpreter and was not compiled: it has no asm")

    def __getitem__(self, grid: Any) -> Any:
        return self.function[grid]


class Interpreter:
    """Runs launches. ``execute`` may be replaced for a while (see ``counting``)."""

    def __init__(self) -> None:
        self.semantic: Any = None  # its ``builder`` is what operations go to
        self.listeners: list[Listener] = []
        self.execute: Callable[[Launch], None] = self._run_grid
        self._rewritten: dict[Any, Callable[..., Any]] = {}

    def rewritten(self, function: Any) -> Callable[..., Any]:
        """The function's body under the device's semantics, made once."""
        found = self._rewritten.get(function.fn)
        if found is None:
            found = self._rewritten[function.fn] = internals.rewrite(function.fn, self.helpers)
        return found

    @property
    def helpers(self) -> Any:
        """What rewritten kernels call."""
        return SimpleNamespace(
            scalar=lambda value: self.semantic.to_tensor(value, False),
            constant=lambda value: value.value if isinstance(value, tl.constexpr) else value,
            range=self.steps,
            min=lambda *values: _extreme(builtins.min, tl.core.builtin_min, values),
            max=lambda *values: _extreme(builtins.max, tl.core.builtin_max, values),
        )

    def steps(self, start: Any, stop: Any = None, step: Any = 1, **_: Any) -> Iterator[Any]:
        """``range`` and ``tl.range``: scalars of the language, 64 bits wide where a bound is."""
        if stop is None:
            start, stop = 0, start
        wide = any(isinstance(v, tl.tensor) and v.dtype.primitive_bitwidth == 64 for v in (start, stop, step))
        kind, dtype = (tl.int64, np.int64) if wide else (tl.int32, np.int32)
        for value in builtins.range(_integer(start), _integer(stop), _integer(step)):
            yield tl.tensor(Handle(np.array([value], dtype), kind), kind)

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A device function called from a kernel."""
        if self.semantic.builder.memory is None:
            raise RuntimeError(
                f"{function.__name__} is a Triton function: launch it with {function.__name__}[grid](...), or call it "
                "from a kernel"
            )
        return self.rewritten(function)(*args, **kwargs)

    def launch(self, function: Any, args: tuple[Any, ...], grid: Any, warmup: bool, kwargs: dict[str, Any]) -> Any:
        """``kernel[grid](*args, **kwargs)``; ``warmup`` only checks the arguments."""
        options = {k: v for k, v in kwargs.items() if k not in function.arg_names}
        for name in options:
            if name not in internals.launch_options():
                raise KeyError(f"Keyword argument {name} was specified but unrecognised")
        if warmup:
            return Launched(function, options)
        for hook in function.pre_run_hooks:
            hook(*args, **kwargs)
        given = {k: v for k, v in kwargs.items() if k in function.arg_names}
        try:
            bound = inspect.getcallargs(function.fn, *args, **given)
        except TypeError as error:
            raise TypeError(f"in launch of {function.__name__}: {error}") from None
        self.execute(Launch(self, function, bound, resolve_grid(grid, bound), options))
        return Launched(function, options)

    def _run_grid(self, launch: Launch) -> None:
        arguments, regions = launch.arguments(region_of)
        memory = RealMemory(launch.name, regions)
        width, height, depth = launch.grid
        self.run_programs(
            launch,
            arguments,
            memory,
            ((x, y, z) for z in range(depth) for y in range(height) for x in range(width)),
        )
        for listener in self.listeners:
            listener(launch.name, regions)

    def run_programs(
        self, launch: Launch, arguments: dict[str, Any], memory: Any, programs: Iterator[tuple[int, int, int]]
    ) -> None:
        """Interpret the given programs; an exception comes out with the kernel's name and the candidate's line."""
        builder = self.semantic.builder
        body = self.rewritten(launch.function)
        outer = builder.memory
        builder.set_grid_dim(*launch.grid)
        builder.memory = memory
        try:
            with np.errstate(all="ignore"):
                for program in programs:
                    memory.program = program
                    builder.grid_idx = program
                    body(**arguments)
        except Exception as error:
            raise explain(error, launch.name) from error
        finally:
            builder.memory = outer


class Launch:
    """One launch: the kernel, its bound arguments, its grid (x, y, z), its options."""

    def __init__(
        self,
        interpreter: Interpreter,
        function: Any,
        bound: dict[str, Any],
        grid: tuple[int, int, int],
        options: dict[str, Any],
    ) -> None:
        self.interpreter = interpreter
        self.function = function
        self.name: str = function.__name__
        self.bound = bound
        self.grid = grid
        self.options = options

    def arguments(self, region: Callable[[str, torch.Tensor], Region]) -> tuple[dict[str, Any], list[Region]]:
        """The arguments as the kernel sees them, and the memory behind each tensor."""
        regions: list[Region] = []
        constants = {name for name, kind in self.function.fn.__annotations__.items() if _is_constexpr(kind)}
        semantic = self.interpreter.semantic

        def convert(name: str, value: Any) -> Any:
            if isinstance(value, tl.constexpr):
                return value.value
            if isinstance(value, bool):
                return _scalar(value, tl.int1)
            if isinstance(value, int):
                return _scalar(value, internals.integer_type(value))
            if isinstance(value, float):
                return _scalar(value, tl.float32)
            if isinstance(value, torch.Tensor):
                return pointer(name, value, internals.pointer_to(value.dtype))
            if isinstance(value, internals.Wrapper):
                return pointer(name, value.base, tl.pointer_type(value.dtype))
            if isinstance(value, internals.Descriptor):
                return internals.make_descriptor(semantic, value, lambda part: convert(name, part))
            if isinstance(value, (tuple, list)):
                items = [convert(f"{name}[{i}]", item) for i, item in enumerate(value)]
                return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
            return value

        def pointer(name: str, tensor: torch.Tensor, kind: Any) -> Any:
            if labels.logical_device(tensor).type == "cpu":
                position = list(self.bound).index(name.partition("[")[0])
                raise ValueError(f"Pointer argument (at {position}) cannot be accessed from Triton (cpu tensor?)")
            found = region(name, tensor)
            regions.append(found)
            handle = Handle(np.array([found.start], dtype=np.uint64), kind)
            handle.of = found
            return tl.tensor(handle, kind)

        with torch._C.DisableTorchFunction():
            made = {
                name: _constant(value) if name in constants else convert(name, value)
                for name, value in self.bound.items()
            }
        return made, regions


def region_of(name: str, tensor: torch.Tensor) -> Region:
    """The real memory of a tensor."""
    low, high = labels.extent(tensor)
    return Region(name, low, high, tensor.data_ptr(), tensor.numel(), tensor.untyped_storage())


def resolve_grid(grid: Any, bound: dict[str, Any]) -> tuple[int, int, int]:
    """The grid as three sizes; a callable gets the bound arguments. Raises as a launch on the device does."""
    sizes = grid(bound) if callable(grid) else grid
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"a grid has 1 to 3 dimensions, not {len(sizes)}")
    whole = []
    for axis, size in enumerate(sizes):
        try:
            number = operator.index(getattr(size, "value", size))
        except TypeError:
            raise TypeError(f"grid dimension {axis} is {size!r}: a grid is made of integers") from None
        if not 0 <= number <= GRID_LIMITS[axis]:
            raise ValueError(f"grid dimension {axis} is {number}: it must lie between 0 and {GRID_LIMITS[axis]}")
        whole.append(number)
    first, second, third = (*whole, 1, 1)[:3]
    return first, second, third


def _is_constexpr(annotation: Any) -> bool:
    return annotation is tl.constexpr or (isinstance(annotation, str) and "constexpr" in annotation)


def _constant(value: Any) -> Any:
    return value.value if isinstance(value, tl.constexpr) else value


def _scalar(value: Any, kind: Any) -> Any:
    return tl.tensor(Handle(np.array([value], dtype=internals.np_dtype(kind)), kind), kind)


def _integer(value: Any) -> int:
    return operator.index(getattr(value, "value", value))


def _extreme(plain: Callable[..., Any], device: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    """``min`` and ``max``: the device's where a value is a tensor."""
    return device(*values) if any(isinstance(v, tl.tensor) for v in values) else plain(*values)
