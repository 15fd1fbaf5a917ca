"""The worker that computes nothing: what it takes for a chunk is no candidate's work, and is subtracted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..sittings.sitting import Again
from ..workers.handle import Worker, WorkerDied, WorkerFailed, WorkerTimeout
from .sealing import Ground, Sealed, Stuck, empty_chunk
from .slots import Filled

#: Stops every candidate and sees to it that the GPU is idle.
Still = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass
class Empties:
    """A worker that computes nothing, for what it takes for a chunk. One ground at a time."""

    fork: Callable[[], Worker]
    still: Still
    _worker: Worker | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Have the worker made, before somebody who is alone has to wait for it."""
        with self._starting:
            if self._worker is None:
                self._worker = self.fork()

    def enter(self, ground: Ground, timeout_s: float) -> Sealed:
        self.start()
        assert self._worker is not None
        with self._sound():
            return Sealed(self._worker, ground, timeout_s)

    def chunk(self, idle: Sealed, filled: Filled, calls: int, stall: bool) -> float:
        """The wall clock over an empty chunk, in ms."""
        with self._sound():
            return empty_chunk(idle, filled, calls, stall)

    def leave(self, idle: Sealed) -> None:
        with self._sound():
            idle.leave()

    @contextlib.contextmanager
    def _sound(self) -> Iterator[None]:
        """It is no candidate's fault when this worker fails. Raises Again."""
        try:
            yield
        except (WorkerDied, WorkerTimeout, WorkerFailed, Stuck) as failed:
            self.close()
            raise Again(f"the worker that computes nothing failed: {str(failed) or 'it was stuck'}") from failed

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
