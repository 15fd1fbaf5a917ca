"""Who wrote the outputs: ``with watch() as seen:`` around a call, then ``seen.unwritten(outputs)``.

Each storage made in the watch has a state: *empty* (allocated, nothing written), *host* (its values came from NumPy or
Python), *written* (by a Triton store or an ATen operator that computes). Pure copies hand the source's state on, so
host data is not laundered by ``.to`` or ``.clone``. A storage from before the watch counts as written when it is read,
and as unwritten when it comes back untouched, unless it was given.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from . import adapter, labels
from .memory import Region

EMPTY, HOST, WRITTEN = "empty", "host", "written"
_STATE = "_kernelgrove_state"

ALLOCATIONS = frozenset(
    "empty empty_strided empty_like new_empty new_empty_strided empty_permuted resize_ set_".split()
)
COPIES = frozenset(
    (
        "_to_copy clone copy_ copy lift_fresh lift_fresh_copy contiguous cat stack hstack vstack concat repeat "
        "flip roll rot90 tril triu index_select index gather take expand_copy permute_copy transpose_copy t_copy "
        "view_copy slice_copy select_copy unsqueeze_copy squeeze_copy as_strided_copy split_copy unbind_copy "
        "constant_pad_nd _unsafe_view reshape_copy _reshape_alias_copy pixel_shuffle pixel_unshuffle "
        "channel_shuffle index_put_ index_copy_ slice_scatter select_scatter _foreach_copy_ split_with_sizes_copy "
        "_conj_physical resolve_conj resolve_neg"
    ).split()
)
FILLS = frozenset(
    "zeros zeros_like zero_ new_zeros ones ones_like new_ones full full_like new_full fill_ fill scalar_tensor arange "
    "_local_scalar_dense is_same_size _has_compatible_shallow_copy_type".split()
)


class Watch:
    """What ran inside a ``watch()``.

    ``launches``: names of Triton kernels in order; ``aten``: how often each ATen operator ran, by name.
    """

    def __init__(self, given: Iterable[torch.Tensor], poison: bool) -> None:
        self.launches: list[str] = []
        self.aten: Counter[str] = Counter()
        self.poison = poison
        self._token = object()
        self._computed = False
        for tensor in given:
            self._set(_storage(tensor), WRITTEN)

    def unwritten(self, tensors: Sequence[Any]) -> list[int]:
        """Indices of the tensors that neither a kernel nor a computing ATen operator wrote (empty ones aside)."""
        return [
            index
            for index, tensor in enumerate(tensors)
            if isinstance(tensor, torch.Tensor) and tensor.numel() and self._get(_storage(tensor)) != WRITTEN
        ]

    def provenance(self) -> str:
        """``custom``: Triton, views, allocations and copies alone; ``library``: no Triton launch; ``mixed``: both."""
        if not self.launches:
            return "library"
        return "mixed" if self._computed else "custom"

    def _get(self, storage: Any) -> str | None:
        state = storage.__dict__.get(_STATE)
        if state is not None and state[0] is self._token:
            found: str = state[1]
            return found
        return HOST if labels.is_shared(storage) else None

    def _set(self, storage: Any, state: str) -> None:
        setattr(storage, _STATE, (self._token, state))

    def launched(self, name: str, regions: Sequence[Region]) -> None:
        """A Triton launch is over."""
        self.launches.append(name)
        for region in regions:
            if region.written:
                self._set(region.storage, WRITTEN)

    def ran(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """An ATen operator is over."""
        name = func.overloadpacket.__name__
        self.aten[name] += 1
        if name == "lift_fresh":  # made from Python or NumPy data
            for tensor in _tensors(result):
                self._set(_storage(tensor), HOST)
        elif func.is_view:
            return
        elif name in ALLOCATIONS:
            if name != "set_":
                for tensor in _tensors(result):
                    self._set(_storage(tensor), EMPTY)
                    if self.poison:
                        _poison(tensor)
        elif name in COPIES:
            self._copied(name, args, kwargs, result)
        else:
            self._computed = self._computed or name not in FILLS
            for tensor in (*_tensors(result), *_mutated(func, args, kwargs)):
                self._set(_storage(tensor), WRITTEN)

    def _copied(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if name in ("copy_", "index_put_", "index_copy_"):
            target, source = args[0], args[-1] if name == "index_copy_" else args[2 if name == "index_put_" else 1]
            state = self._get(_storage(source)) or WRITTEN
            storage = _storage(target)
            share = (source if name != "copy_" else target).numel() * target.element_size() / max(storage.nbytes(), 1)
            if state == WRITTEN or share >= 0.5:
                self._set(storage, state)
            return
        sources = [self._get(_storage(tensor)) or WRITTEN for tensor in _tensors(args)]
        state = WRITTEN if WRITTEN in sources or not sources else HOST if HOST in sources else EMPTY
        for tensor in _tensors(result):
            self._set(_storage(tensor), state)


class _Observer(TorchDispatchMode):
    def __init__(self, seen: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo (a second) at the first operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        with labels.truthfully():
            self.seen.ran(func, args, kwargs, result)
        return result


def _storage(tensor: torch.Tensor) -> Any:
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided:
            yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _mutated(func: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    """Arguments that the operator's schema says it writes."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors(args[position] if position < len(args) else kwargs.get(argument.name))


def _poison(tensor: torch.Tensor) -> None:
    """Fill fresh memory with NaN or the largest integer, so that what is read before it is written shows."""
    if tensor.device.type != "cpu" or tensor.is_quantized:
        return
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        tensor.fill_(float("nan"))
    elif tensor.dtype is not torch.bool:
        tensor.fill_(torch.iinfo(tensor.dtype).max)


@contextlib.contextmanager
def watch(given: Iterable[torch.Tensor] = (), poison: bool = True) -> Iterator[Watch]:
    """Watch every launch and ATen operator inside; ``given`` tensors (the inputs, say) may come back as they are.

    ``poison`` fills what ``torch.empty`` gives with NaN, so that elements that no kernel writes compare unequal.
    """
    seen = Watch(given, poison)
    interpreter = adapter.current()
    if interpreter is not None:
        interpreter.listeners.append(seen.launched)
    try:
        with _Observer(seen):
            yield seen
    finally:
        if interpreter is not None:
            interpreter.listeners.remove(seen.launched)
