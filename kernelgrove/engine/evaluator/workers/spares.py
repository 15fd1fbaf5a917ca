"""Workers that wait for a candidate, forked and on the device already: starting one takes longer than most checks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from kernelgrove.errors import KernelGroveError

from .handle import Worker

_THREADS = 2  # that make new ones: the driver makes one context after another


class Spares:
    """Up to *count* workers in waiting, each used once. Thread-safe."""

    def __init__(self, fork: Callable[[], Worker], count: int, after: Future[float]) -> None:
        self._fork, self._count, self._after = fork, count, after
        self._changed = threading.Condition()
        self._ready: deque[Worker] = deque()
        self._closed = False
        self._coming = 0
        for _ in range(_THREADS):
            threading.Thread(target=self._refill, name="spares", daemon=True).start()

    def take(self) -> Worker | None:
        """A worker in waiting, or None where none waits."""
        with self._changed:
            while self._ready:
                worker = self._ready.popleft()
                self._changed.notify_all()
                if worker.waiting:
                    return worker
                worker.close()
        return None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            ready, self._ready = list(self._ready), deque()
            self._changed.notify_all()
        for worker in ready:
            worker.close()

    def _refill(self) -> None:
        self._after.exception()  # all timing waits for the calibration
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) + self._coming < self._count)
                if self._closed:
                    return
                self._coming += 1
            try:
                worker = self._fork()
            except KernelGroveError:  # whoever asks next meets the same, and says so
                return
            with self._changed:
                self._coming -= 1
                if not self._closed:
                    self._ready.append(worker)
                    continue
            worker.close()
            return
