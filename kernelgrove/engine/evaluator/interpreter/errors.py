"""What goes wrong inside a candidate, told with the kernel's name and the candidate's line. Standard library only."""

from __future__ import annotations

import linecache
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any


class OutOfBounds(RuntimeError):
    """A load, store or atomic touched memory outside the tensor that its pointer was made from."""


class KernelError(RuntimeError):
    """An exception raised inside a kernel. What is raised is also an instance of the original exception's class.

    ``kernel`` is the kernel's name, ``line`` the candidate's line (0 where it has none).
    """

    kernel = ""
    line = 0


class StaticAssertFailed(AssertionError):
    """``tl.static_assert`` is false: on the device a compile error, and a configuration that autotune passes over."""


class NeedsValues(RuntimeError):
    """The candidate's host code reads a value, or a shape that depends on one, so it cannot be counted without data."""


class NeedsGpu(NotImplementedError):
    """The candidate uses what CUDA has and no interpreter can have: it can be judged on a GPU alone."""


class CountingLimit(RuntimeError):
    """One program of a launch is too long to be interpreted within the time limit."""


@lru_cache(maxsize=1)
def _libraries() -> tuple[str, ...]:
    """Folders whose frames are not the candidate's: the standard library, installed packages, this package."""
    import torch
    import triton

    roots = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        str(Path(torch.__file__).parent),
        str(Path(triton.__file__).parent),
        str(Path(__file__).parents[2]),
    }
    return tuple(f"{root}/" for root in roots if root)


def candidate_line(traceback: TracebackType | None) -> tuple[str, int, str]:
    """File, line and text of the deepest frame that belongs to the candidate; ``("", 0, "")`` where none does."""
    found = ("", 0)
    libraries = _libraries()
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith(libraries) and "/site-packages/" not in name and not name.startswith("<frozen"):
            found = (name, traceback.tb_lineno)
        traceback = traceback.tb_next
    if not found[1]:
        return "", 0, ""
    return found[0], found[1], linecache.getline(*found).strip()


@lru_cache(maxsize=64)
def _class_for(original: Any) -> type[KernelError]:
    """A class that is both a ``KernelError`` and the original, under the original's name."""
    try:
        return type(original.__name__, (KernelError, original), {"__module__": original.__module__, "__str__": _text})
    except TypeError:  # two C layouts that cannot be joined
        return KernelError


def _text(error: BaseException) -> str:
    """KeyError and its like quote their argument; a sentence is not to be quoted."""
    return str(error.args[0]) if error.args else ""


def explain(error: Exception, kernel: str) -> Exception:
    """The same error with the kernel and the candidate's line in front. ``OutOfBounds`` gets its line at the end."""
    if isinstance(error, KernelError):
        return error
    _, line, text = candidate_line(error.__traceback__)
    if isinstance(error, OutOfBounds):
        return OutOfBounds(f"{error} (line {line}: {text})" if line else str(error))
    if isinstance(error, CountingLimit):
        return error
    words = str(error) or repr(error)
    where = f"in kernel {kernel}, line {line}, `{text}`" if line else f"in kernel {kernel}"
    message = f"{where}: {words}"
    try:
        kind: Any = type(error)
        told = _class_for(kind)(message)
    except Exception:  # a constructor with arguments of its own
        told = KernelError(f"{where}: {type(error).__name__}: {words}")
    told.kernel, told.line = kernel, line
    return told
