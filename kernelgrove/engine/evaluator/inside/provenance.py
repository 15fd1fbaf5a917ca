"""What a candidate launches: its own kernels, PyTorch's operators, or both. Seen in its worker, so it is a claim."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Calls of functions of C++ extensions that this process has loaded, since it was forked.
_extension_calls = 0


def watch_extensions() -> None:
    """Count calls of what ``torch.utils.cpp_extension`` loads from now on: nothing else tells of its kernels."""
    from torch.utils import cpp_extension

    loader: Any = cpp_extension
    original = loader._import_module_from_library

    @functools.wraps(original)
    def load(*args: Any, **kwargs: Any) -> Any:
        module = original(*args, **kwargs)
        for name in dir(module):
            function = getattr(module, name)
            if callable(function) and not name.startswith("__"):
                setattr(module, name, _counted(function))
        return module

    loader._import_module_from_library = load


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        global _extension_calls
        _extension_calls += 1
        return function(*args, **kwargs)

    return call


class Observer(TorchDispatchMode):
    """Which ATen operators compute something, and whether kernels of its own were launched, during one call."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self.moves = 0
        self.launches = 0
        self.replays = 0
        self._restore: Callable[[], None] = lambda: None
        self._extension_calls = _extension_calls

    def __enter__(self) -> Observer:
        from triton.runtime.jit import JITFunction

        graphs: Any = torch.cuda.CUDAGraph
        launch, replay = JITFunction.run, graphs.replay
        observer = self

        def run(function: Any, *args: Any, **kwargs: Any) -> Any:
            launched = launch(function, *args, **kwargs)
            observer.launches += not kwargs.get("warmup", False)  # not where it does not compile
            return launched

        def replayed(graph: Any) -> Any:
            observer.replays += 1
            return replay(graph)

        JITFunction.run, graphs.replay = run, replayed

        def restore() -> None:
            JITFunction.run, graphs.replay = launch, replay

        self._restore = restore
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._restore()
        self.launches += _extension_calls - self._extension_calls
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace not in ("aten", "prims", "prim"):
            self.launches += 1  # an operator that somebody registered: the candidate's own
        elif name in _MOVES:
            self.moves += 1
        elif not func.is_view:
            self.operators[name] += 1
        return func(*args, **(kwargs or {}))

    def to_json(self) -> dict[str, Any]:
        """Provenance; what ATen computed, most frequent first; and about how many launches one call makes."""
        names = [name for name, _ in self.operators.most_common(12)]
        made = self.launches + 2 * sum(self.operators.values()) + self.moves
        return {"provenance": self.provenance(), "operators": names, "launches": made}

    def provenance(self) -> str:
        """``custom``, ``mixed`` or ``library``. What a CUDA graph holds cannot be seen: ``mixed``."""
        if self.replays and not self.operators:
            return "mixed"
        if not self.launches:
            return "library"
        return "mixed" if self.operators else "custom"


#: Operators that allocate or move data; they do not make a kernel "mixed".
_MOVES = frozenset(
    """empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like full
    full_like fill_ zero_ clone copy_ _to_copy detach alias _unsafe_view _reshape_copy set_ resize_ lift_fresh
    scalar_tensor record_stream""".split()
)
