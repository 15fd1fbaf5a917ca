"""``install()``: once a process, make Triton's interpreter fit for candidates."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

_interpreter: Any = None


def install() -> None:
    """Patch Triton's interpreter for the life of the process; a second call does nothing. Under 50 ms.

    Raises ``RuntimeError`` where ``TRITON_INTERPRET=1`` was not set before Triton was imported.
    """
    global _interpreter
    if _interpreter is not None:
        return
    import triton
    import triton.language as tl

    if not triton.knobs.runtime.interpret or os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before triton is imported: the interpreter is chosen at import")
    from . import internals, libdevice
    from .autotuning import patch_autotuner
    from .builder import Builder
    from .errors import StaticAssertFailed
    from .folds import BlockHasNoTruth, Folds
    from .launch import Interpreter

    builder = Builder()
    interpreter = Interpreter()
    folds = Folds()
    triton_home = triton.__path__[0]

    def index(self: Any) -> int:
        data = self.handle.data
        if data.size != 1:
            raise TypeError(
                f"a block of shape {data.shape} is not an integer: only a scalar can be an index or a bound"
            )
        return int(data.reshape(-1)[0])

    def truth(self: Any) -> bool:
        data = self.handle.data
        if data.size == 1:
            return bool(data.reshape(-1)[0])
        if sys._getframe(1).f_code.co_filename.startswith(triton_home):
            return True  # Triton's own ``if other``: is there one
        raise BlockHasNoTruth(
            f"a block of shape {data.shape} has no truth value: use tl.where, or reduce it to a scalar first"
        )

    def static_assert(condition: Any, message: str = "", **_: Any) -> None:
        value = getattr(condition, "value", condition)
        if not (bool(np.all(value.handle.data)) if isinstance(value, tl.tensor) else value):
            raise StaticAssertFailed(f"static_assert failed: {message}" if message else "static_assert failed")

    semantic = internals.patch_language(
        builder,
        {
            "reduce": folds.reduce,
            "associative_scan": folds.scan,
            "range": interpreter.steps,
            "static_assert": static_assert,
        },
        {"__index__": index, "__int__": index, "__bool__": truth},
    )
    folds.semantic = semantic
    interpreter.semantic = semantic
    libdevice.install(semantic)
    internals.quicken()
    internals.patch_calls(interpreter.launch, interpreter.call)
    patch_autotuner()
    _interpreter = interpreter


def current() -> Any:
    """The installed interpreter; ``None`` where there is none (a compiling process)."""
    return _interpreter
