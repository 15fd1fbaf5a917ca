"""The dry launch: run a candidate's forward on meta tensors and compile each kernel it launches for the target.

Runs in the compiling nursery's worker (no GPU, no ``TRITON_INTERPRET``). It may take as long as the compiler likes:
the judge ends the process after its limit.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..wire.work import Compiled
from . import driver

#: Longest part of a compiler's message that is worth passing on to a proposer.
_MOST_LINES = 24


class CompileFailed(Exception):
    """A kernel does not compile for the target, or does not fit on it. *message* is what the compiler said, with
    the candidate's own line; it is meant for whoever repairs the kernel."""

    def __init__(self, kernel: str, message: str) -> None:
        super().__init__(f"kernel {kernel}: {message}")
        self.kernel = kernel
        self.message = message


def compile_launches(
    forward: Callable[[], object],
    facts: Mapping[str, Any],
    launchers: bool = False,
    first: Callable[[], object] | None = None,
) -> list[Compiled]:
    """Call *forward* once and return what became of each Triton launch, in order. *facts* is ``GpuSpec.facts()``;
    with *launchers*, Triton's cache also gets what launching for real needs. What *first*, called before, launches is
    compiled too, and not told.

    Everything *forward* allocates should be on the meta device; other launches (ATen, CUDA C) are not seen here.
    Of an autotuned kernel the first configuration that compiles is taken. Raises CompileFailed, or whatever
    *forward* raises for a reason of its own (host code that needs a tensor's values, say).
    """
    with driver.installed(facts, launchers) as recorder:
        try:
            if first is not None:
                first()
                recorder.launches.clear()
            forward()
        except Exception as error:
            failed = _explain(error, recorder, facts)
            if failed is None:
                raise
            raise failed from error
    return [
        Compiled(
            name=launch.name,
            registers=launch.resources.registers,
            shared_bytes=launch.shared_bytes,
            spills=launch.resources.spills,
            num_warps=launch.num_warps,
            num_stages=launch.num_stages,
            grid=launch.grid,
            constants=launch.constants,
        )
        for launch in recorder.launches
    ]


def _explain(error: BaseException, recorder: driver.Recorder, facts: Mapping[str, Any]) -> CompileFailed | None:
    """The CompileFailed that *error*, or what caused it, amounts to; None when the compiler is not to blame."""
    from triton.runtime.errors import OutOfResources

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OutOfResources):
            kernel = recorder.kernels[-1].__name__ if recorder.kernels else "?"
            return CompileFailed(kernel, _too_big(link, facts))
        for kernel, failure, log in recorder.failures:
            if failure is link:
                return CompileFailed(kernel.__name__, _message(kernel, failure, log))
        link = link.__cause__ or link.__context__
    return None


def _too_big(error: Any, facts: Mapping[str, Any]) -> str:
    name = facts["name"]
    if error.name == "shared memory":
        return (
            f"needs {error.required} bytes of shared memory a block, the {name} has {error.limit}; "
            "smaller blocks or fewer num_stages need less"
        )
    if error.name == "threads":
        return (
            f"needs {error.required} threads a block, its registers leave room for {error.limit} on the {name}; "
            "use fewer num_warps"
        )
    return f"needs {error.required} of {error.name} a block, the {name} has {error.limit}"


def _message(kernel: Any, error: BaseException, log: str) -> str:
    """The compiler's words and where in the candidate's file they point."""
    cause: BaseException = error
    where = ""
    while True:
        if line := _line(kernel, cause):
            where = f"line {line}: "
        if cause.__cause__ is None or not _is_compilation_error(cause.__cause__):
            break
        cause = cause.__cause__  # an error inside a called jit function is wrapped once a caller
    text = str(cause).strip() or type(cause).__name__
    if not _is_compilation_error(cause):
        text = f"{type(cause).__name__}: {_ptxas(text)}"
        if diagnostics := _diagnostics(log):
            text = f"{text}\n{diagnostics}"
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "..."]
    return where + "\n".join(lines)


def _is_compilation_error(error: BaseException) -> bool:
    from triton.compiler.errors import CompilationError

    return isinstance(error, CompilationError)


def _line(kernel: Any, error: BaseException) -> int | None:
    """Line in the candidate's file. Errors count lines from ``def``, below any decorators."""
    node = getattr(error, "node", None)
    source = getattr(error, "src", None)
    if node is None or not hasattr(node, "lineno") or source != kernel.src:
        return None  # an error inside another jit function: its excerpt says where
    try:
        lines, first = inspect.getsourcelines(kernel.fn)
    except (OSError, TypeError):
        return None
    above = next((i for i, text in enumerate(lines) if re.match(r"\s*def\s", text)), 0)
    return int(first + above + node.lineno - 1)


def _ptxas(text: str) -> str:
    """Without the command that reproduces it: paths of a scratch folder that is gone."""
    return text.split("Repro command:")[0].strip()


def _diagnostics(log: str) -> str:
    """Lines of MLIR or ptxas that say what is wrong; the module dumps around them run to thousands of lines."""
    kept = [line.strip() for line in log.splitlines() if re.search(r"\berror\b|fatal|LLVM ERROR", line)]
    return "\n".join(dict.fromkeys(kept[:8]))
