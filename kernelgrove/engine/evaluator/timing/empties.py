"""The worker that computes nothing: what it takes for a chunk is no candidate's work, and is subtracted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..checking.judged_reference import Case
from ..sittings.sitting import Again
from ..wire.arena import CudaArena
from ..wire.protocol import ProtocolBreak, Reply
from ..workers.handle import Worker, WorkerDied, WorkerFailed, WorkerTimeout
from .cores import Cores
from .figures import EMPTY_SHARE
from .sealing import Ground, Sealed, Stuck, empty_calls, empty_chunk
from .slots import Filled, Layout

_KEPT = 4 << 30  # bytes of its memory between two candidates
_LOOKS, _STEEPER = 3, 1.5
_PACE_S = 5.0  # in which this worker, which is alone, has looked at all processors: 10 ms
#: Stops every candidate and sees to it that the GPU is idle.
Still = Callable[[], contextlib.AbstractContextManager[None]]


#: How inputs and outputs lie, calls (0: alone), whether they are queued, whether they are cold.
Key = tuple[str, int, bool, bool]


@dataclass
class Empties:
    """A worker that computes nothing, for what it takes for a chunk. One ground at a time."""

    fork: Callable[[], Worker]
    still: Still
    _worker: Worker | None = None
    _arena: CudaArena | None = None
    _least: dict[tuple[str | bool, ...], dict[int, float]] = field(default_factory=dict)  # ms, by calls
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._cores = Cores(self._pace)

    def start(self) -> None:
        """Have the worker made, before somebody who is alone has to wait for it."""
        with self._starting:
            if self._worker is None:
                self._worker = self.fork()

    def ground(self, case: Case, calls: int, device: int) -> Ground:
        """Laid out as a candidate's, in memory that no candidate has ever seen: work of a stopped one could wait on the
        GPU for what changes in its own. Raises CudaError."""
        size = Layout.of(case).size(calls)
        if self._arena is None or self._arena.size < size:
            self._let_go()
            self._arena = CudaArena.create(size, device)
        return Ground(case, calls, device, self._arena)

    @property
    def kept(self) -> int:
        """Bytes that the next ground may use, or that are freed for it."""
        return self._arena.size if self._arena is not None else 0

    def enter(self, ground: Ground, timeout_s: float) -> Sealed:
        self.start()
        assert self._worker is not None
        with self._sound():
            return Sealed(self._worker, ground, timeout_s)

    def core(self) -> int | None:
        """The processor for hosts whose work the clock sees."""
        self.start()
        with self._sound():
            return self._cores.fastest()

    def is_fast(self, core: int) -> bool:
        """Whether that processor is, now."""
        self.start()
        with self._sound():
            return self._cores.is_fast(core)

    def _pace(self, cores: Sequence[int]) -> Sequence[float | None]:
        assert self._worker is not None
        found: list[float | None] = self._worker.ask("pace", Reply.PACED, _PACE_S, {"cores": list(cores)})["pace"]
        return found

    def chunk(self, idle: Sealed, filled: Filled, calls: int, stall: bool, core: int | None = None) -> float:
        """The wall clock over an empty chunk, in ms."""
        with self._sound():
            return empty_chunk(idle, filled, calls, stall, core)

    def alone(
        self, idle: Sealed, filled: Filled, cold: Sequence[bool], waits: bool, core: int | None = None
    ) -> dict[bool, float]:
        """The judge's clock over an empty call that goes through alone, in ms, by whether it is a cold one."""
        with self._sound():
            return empty_calls(idle, filled, cold, waits, core)

    def looks(self, key: Key) -> int:
        """How often what has *key* is to be run: the least counts where nothing is known of it yet."""
        return 1 if self._known(key) else _LOOKS

    def believed(self, found_ms: float, key: Key, most_ms: float) -> float:
        """*found_ms*, or *most_ms* (a share of it, where that is more) more than the least that there can be by what
        was ever found for *key* or for other numbers of calls: whoever slows this worker down would have too much
        subtracted. More calls take no less; nor do so many times more take more than as many times as much, and
        something for what no longer fits into the L2."""
        calls, known = key[1], self._known(key)
        least = known[calls] = min(known.get(calls, found_ms), found_ms)
        least = min(each * (1.0 if other >= calls else _STEEPER * calls / other) for other, each in known.items())
        return min(found_ms, least + max(most_ms, EMPTY_SHARE * least))

    def _known(self, key: Key) -> dict[int, float]:
        lies, calls, *how = key
        return self._least.setdefault((lies, calls == 0, *how), {})  # a call alone is another thing

    def leave(self, idle: Sealed | None) -> None:
        """*idle* (None: it never came so far) is through with the ground of its. Where it has failed nothing is said to
        it: whoever asks one that is closed waits for half a minute, and why it failed would be lost."""
        try:
            if idle is not None and idle.worker is self._worker:
                with self._sound():
                    idle.leave()
        finally:
            if self._arena is not None and self._arena.size > _KEPT:
                self._let_go()

    def _let_go(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None:
            arena.close()

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        """It is no candidate's fault when this worker fails. Raises Again."""
        try:
            yield
        except (WorkerDied, WorkerTimeout, WorkerFailed, ProtocolBreak, Stuck) as failed:
            self.close()
            raise Again(f"the worker that computes nothing failed: {str(failed) or 'it was stuck'}") from failed

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
