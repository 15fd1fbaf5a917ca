"""A candidate inside its worker: loading its file, constructing ``ModelNew``, calling it, and explaining failures."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..wire.arena import distinct
from ..wire.protocol import shorten

FILE_NAME = "candidate.py"


class CandidateFailed(Exception):
    """The candidate is at fault: an outcome, the stage it failed in, and a message for whoever wrote it."""

    def __init__(self, outcome: str, stage: str, message: str) -> None:
        super().__init__(message)
        self.outcome, self.stage, self.message = outcome, stage, message

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "stage": self.stage, "message": shorten(self.message)}


class Candidate:
    """One program. ``construct`` may be called again with other weights; buffers are restored before each call."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.model: Any = None
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []

    @staticmethod
    def from_text(code: str, scratch: str) -> Candidate:
        """Run the file *code*. It is written to *scratch* first, since Triton reads a kernel's source again."""
        path = f"{scratch}/{FILE_NAME}"
        Path(path).write_text(code, encoding="utf-8")
        linecache.checkcache(path)
        module = types.ModuleType("candidate")
        module.__file__ = path
        sys.modules["candidate"] = module
        try:
            exec(compile(code, path, "exec"), module.__dict__)
        except BaseException as error:
            failed = explain(error, "load", scratch)
            outcome = failed.outcome if failed.outcome == "out_of_memory" else "compile_error"
            raise CandidateFailed(outcome, "load", f"the file does not load: {failed.message}") from error
        make = getattr(module, "ModelNew", None)
        if not callable(make):
            classes = [name for name, value in vars(module).items() if isinstance(value, type)]
            raise CandidateFailed(
                "compile_error",
                "load",
                f"the file defines no class ModelNew (it defines {', '.join(classes) or 'none'})",
            )
        return Candidate(make)

    def construct(
        self, init: Sequence[Any], seed: int, device: str, weights: Sequence[tuple[str, torch.Tensor]], mode: str
    ) -> str:
        """Construct ``ModelNew(*init)`` after seeding; then take *weights* by name where every name and shape
        matches (returns ``"by name"``), else keep the seeded values (``"by seed"``)."""
        torch.manual_seed(seed)
        with torch.device(device):
            model = self._make(*init)
        if isinstance(model, torch.nn.Module):
            model = model.to(device)
            if mode == "eval":
                model.eval()
        taken = "by seed"
        if isinstance(model, torch.nn.Module) and weights:
            own = model.state_dict()
            given = dict(weights)
            if own.keys() == given.keys() and all(own[name].shape == given[name].shape for name in own):
                with torch.no_grad():
                    for name, value in given.items():
                        distinct(own[name]).copy_(distinct(value, own[name]))
                taken = "by name"
        self.model = model
        self._buffers = []
        if isinstance(model, torch.nn.Module):
            self._buffers = [(buffer, buffer.clone()) for buffer in map(distinct, model.buffers())]
        return taken

    def forward(self, inputs: Sequence[Any], seed: int) -> Any:
        """One call, as every call of a check is made: buffers as constructed, the generator seeded."""
        with torch.no_grad():
            for buffer, saved in self._buffers:
                buffer.copy_(saved)
            torch.manual_seed(seed)
            return self.model(*inputs)

    def bare(self) -> Callable[[Sequence[Any]], Any]:
        """A call with nothing around it, for a timing loop."""
        model = self.model
        torch.set_grad_enabled(False)
        return lambda inputs: model(*inputs)

    def restored(self, inputs: Sequence[Any]) -> Any:
        """A call with its buffers as constructed, for references whose every call would otherwise differ."""
        with torch.no_grad():
            for buffer, saved in self._buffers:
                buffer.copy_(saved)
            return self.model(*inputs)


def set_precision(policy: str) -> None:
    """``default``: as PyTorch ships (TF32 in convolutions, not in matmuls); ``strict``: nowhere; else everywhere."""
    if policy == "default":
        return
    allowed = policy in ("tf32", "any")
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    if policy == "any":
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True


# ------------------------------------------------------------------------------------------------ failures

#: How torch and Triton say it where they raise something else: on a GPU, on the CPU.
_NO_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
    "DefaultCPUAllocator: can't allocate memory",
)
_COMPILER_ERRORS = frozenset(
    """CompilationError CompileTimeAssertionFailure UnsupportedLanguageConstruct OutOfResources PTXASError
    InlineAsmError""".split()
)


def explain(error: BaseException, stage: str, scratch: str) -> CandidateFailed:
    """Name the outcome of *error* and say where in the candidate's file it came from."""
    chain, seen = [error], {id(error)}
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        chain.append(cause)
    for link in chain:
        if isinstance(link, MemoryError | torch.OutOfMemoryError) or any(words in str(link) for words in _NO_MEMORY):
            return CandidateFailed("out_of_memory", stage, _sentence(link, scratch))
    for link in chain:
        if type(link).__name__ in _COMPILER_ERRORS:
            return CandidateFailed("compile_error", "compile", _sentence(link, scratch))
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return CandidateFailed("runtime_error", stage, f"the candidate raised {type(error).__name__}: {error}")
    return CandidateFailed("runtime_error", stage, _sentence(error, scratch))


def _sentence(error: BaseException, scratch: str) -> str:
    """Type and text of *error* and the candidate's own lines on its traceback, innermost last."""
    text = str(error).replace(scratch + os.sep, "").strip()
    if "Error building extension" in text:
        text = _build_errors(text)
    lines = [f"{type(error).__name__}: {text}" if text else type(error).__name__]
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == f"{scratch}/{FILE_NAME}":
            lines.append(f"  line {frame.lineno} in {frame.name}: {frame.line or ''}")
    if isinstance(error, SyntaxError) and error.text:
        lines.append(f"  line {error.lineno}: {error.text.strip()}")
    return "\n".join(lines)


def _build_errors(text: str) -> str:
    """What the compilers said was wrong, of all that ninja printed."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.search(r"\berror\b", line) and not line.startswith("ninja")]
    return "\n".join(dict.fromkeys(errors[:12])) or text
