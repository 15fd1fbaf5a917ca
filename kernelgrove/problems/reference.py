"""Runs a problem's reference in the judge's own process, and says in one sentence what is wrong with it.

The problem file is trusted; candidates never run here. Imports torch.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import linecache
import math
import numbers
import random
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..errors import ProblemError
from .outputs import COMPARED, flatten

_serial = itertools.count(1)

#: The random generators belong to the process: one thread at a time seeds them and runs what may draw from them.
drawing = threading.RLock()


@dataclass(frozen=True)
class Spec:
    """One leaf of the inputs or outputs. ``dtype`` is torch's name (``float32``), or Python's for what is no tensor."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    tensor: bool = True

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" if self.tensor else self.dtype


@dataclass(frozen=True)
class Description:
    """What one run of the reference showed. ``parameters`` counts elements of parameters, not of buffers."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    parameters: int


class Reference:
    """A problem's text, executed as a fresh module.

    Every method raises ProblemError, in one sentence, for what the file gets wrong. ``make`` and ``inputs`` seed the
    process's random generators (torch on every device, NumPy, ``random``) and leave them so. Devices may be given as
    torch accepts them; ``meta`` works wherever the model's own code allows it. Thread-safe.
    """

    def __init__(self, source: str, name: str, mode: str = "train") -> None:
        self.source = source
        self.name = name
        self.mode = mode
        self.file = name if name.endswith(".py") else f"{name}.py"
        self._file = f"<problem {name} {next(_serial)}>"
        # Dataclasses, torch.compile and inspect look a module up by its name, and its lines up by its file.
        self._module = types.ModuleType(f"kernelgrove_problem_{next(_serial)}")
        self._module.__file__ = self._file
        sys.modules[self._module.__name__] = self._module
        linecache.cache[self._file] = (len(source), None, source.splitlines(keepends=True), self._file)
        try:
            with self._blame("importing it"):
                exec(compile(source, self._file, "exec"), self._module.__dict__)
            for wanted in ("Model", "get_inputs"):
                if not callable(getattr(self._module, wanted, None)):
                    raise ProblemError(f"{self.file} has no {wanted} once it has run.")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Forget the module. Models made from it go on working."""
        sys.modules.pop(self._module.__name__, None)
        linecache.cache.pop(self._file, None)

    def init_inputs(self) -> list[Any]:
        """What ``Model`` is constructed with: the same values on every call, made on the CPU."""
        function = getattr(self._module, "get_init_inputs", None)
        if function is None:
            return []
        with drawing, torch.random.fork_rng(devices=[]), self._blame("get_init_inputs()"):
            _seed(0)
            return self._listed(function(), "get_init_inputs")

    def make(self, seed: int, device: torch.device | str) -> nn.Module:
        """A model on *device*, its weights drawn from *seed*, in the mode it was constructed in (or eval if asked)."""
        where = torch.device(device)
        arguments = _moved(self.init_inputs(), where)
        with drawing, self._blame("the constructor of Model"), where:
            _seed(seed)
            model = self._construct(arguments)
        if not isinstance(model, nn.Module):
            raise ProblemError(f"Model in {self.file} is not an nn.Module.")
        with self._blame(f"moving Model to {where}"):
            model = model.to(where)
        return model.eval() if self.mode == "eval" else model

    def inputs(self, seed: int, device: torch.device | str) -> list[Any]:
        """One set of inputs on *device*, drawn from *seed*; the same seed gives the same values on one device."""
        where = torch.device(device)
        with drawing, self._blame("get_inputs()"):
            _seed(seed)
            with where:
                made = self._listed(self._module.get_inputs(), "get_inputs")
            return _moved(made, where)

    def run(self, model: nn.Module, inputs: list[Any]) -> Any:
        """``model(*inputs)`` without gradients."""
        with drawing, self._blame("forward() of Model on what get_inputs() returns"), torch.no_grad():
            try:
                inspect.signature(model.forward).bind(*inputs)
            except ValueError:  # no signature to be had: a builtin or compiled forward
                pass
            except TypeError as error:
                raise ProblemError(
                    f"forward() of Model in {self.file} does not accept what get_inputs() returns: {error}."
                ) from None
            return model(*inputs)

    def _construct(self, arguments: list[Any]) -> Any:
        model: Callable[..., Any] = self._module.Model
        try:
            inspect.signature(model).bind(*arguments)
        except ValueError:
            pass
        except TypeError as error:
            raise ProblemError(
                f"The constructor of Model in {self.file} does not accept what get_init_inputs() returns: {error}."
            ) from None
        return model(*arguments)

    def _listed(self, value: Any, function: str) -> list[Any]:
        if isinstance(value, tuple | list):
            return list(value)
        raise ProblemError(
            f"{function}() in {self.file} returns a {type(value).__name__}; it must return a list of arguments."
        )

    @contextlib.contextmanager
    def _blame(self, what: str) -> Iterator[None]:
        """Turn whatever the file raises into one sentence that says where, on the file's own lines."""
        try:
            yield
        except (ProblemError, KeyboardInterrupt):
            raise
        except torch.OutOfMemoryError as error:
            raise ProblemError(f"{self.file}: {what} needs more memory than there is.", _one_line(error)) from error
        except (Exception, SystemExit) as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self._file]
            where = f"{self.file}:{lines[-1]}" if lines else self.file
            raise ProblemError(f"{where}: {what} fails with {type(error).__name__}: {_one_line(error)}") from error


def describe(model: nn.Module, inputs: list[Any], output: Any) -> Description:
    """The shapes and dtypes of one run."""
    return Description(
        inputs=tuple(_spec(path, leaf) for path, leaf in flatten(inputs)),
        outputs=tuple(_spec(path, leaf) for path, leaf in flatten(output)),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def validate(reference: Reference, device: torch.device | str, seed: int = 0) -> Description:
    """Construct the reference and run it once on *device*, and check what it gives.

    Raises ProblemError where it does not construct or run, returns no tensor, or returns NaN or infinity.
    """
    model = reference.make(seed, device)
    inputs = reference.inputs(seed + 1, device)
    output = reference.run(model, inputs)
    check_output(reference, output)
    return describe(model, inputs, output)


def check_output(reference: Reference, output: Any) -> None:
    """Raise ProblemError unless *output* holds at least one tensor element, only finite values, and nothing that
    cannot be compared."""
    leaves = flatten(output)
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    shown = reference.file
    if not any(tensor.numel() for _, tensor in tensors):
        raise ProblemError(
            f"forward() of Model in {shown} returns no tensor with elements (it returns {_kind(output)})."
        )
    _check_others(shown, leaves)
    for path, tensor in tensors:
        if tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        bad = int(tensor.numel() - torch.isfinite(tensor).sum().item())
        if bad:
            what = "NaN" if bool(torch.isnan(tensor).any()) else "infinity"
            place = f"output{path}" if path else "its output"
            raise ProblemError(
                f"The reference in {shown} gives {what}: {bad} of {tensor.numel()} elements of {place} are not finite, "
                f"so no candidate can be compared with it."
            )


def _check_others(shown: str, leaves: list[tuple[str, Any]]) -> None:
    """What is returned beside tensors: numbers, texts and None, and not too many of them."""
    others = [(path, leaf) for path, leaf in leaves if not isinstance(leaf, torch.Tensor)]
    for path, leaf in others:
        place = f"output{path} of forward() of Model in {shown}"
        if leaf is not None and not isinstance(leaf, numbers.Complex | str | bytes):
            kinds = "tensors, numbers, texts and None, in lists, tuples and dicts"
            raise ProblemError(f"{place} is a {type(leaf).__name__}, which cannot be compared.", f"Return {kinds}.")
        if isinstance(leaf, numbers.Real) and not math.isfinite(leaf):
            raise ProblemError(f"{place} is {leaf}, so no candidate can be compared with it.")
    if others and len(leaves) > COMPARED:
        raise ProblemError(
            f"forward() of Model in {shown} returns {len(leaves)} outputs, some of which are no tensors; "
            f"with such, at most {COMPARED} are compared."
        )


def seed_torch(seed: int) -> None:
    """``torch.manual_seed`` for the CPU and CUDA: that also takes down a stack trace for each other kind of device that
    is not in use, and looks at every file on it."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _seed(seed: int) -> None:
    seed_torch(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        import numpy

        numpy.random.seed(seed % 2**32)


def _moved(values: list[Any], device: torch.device) -> list[Any]:
    """*values* with every tensor in them, nested ones too, on *device*."""
    moved = pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, values)
    return list(moved)


def _spec(path: str, leaf: Any) -> Spec:
    if isinstance(leaf, torch.Tensor):
        return Spec(path, tuple(leaf.shape), str(leaf.dtype).removeprefix("torch."))
    return Spec(path, (), type(leaf).__name__, tensor=False)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0].strip()
    return text if len(text) <= 300 else text[:297] + "..."
