"""A fair readers-writer lock: candidates are checked together, and timed alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """First come, first served: a waiting writer stops later readers, so that neither side starves."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._queue: deque[tuple[object, bool]] = deque()

    @contextmanager
    def shared(self) -> Iterator[None]:
        self._wait(alone=False)
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        self._wait(alone=True)
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def _wait(self, alone: bool) -> None:
        ticket = object()
        with self._changed:
            self._queue.append((ticket, alone))

            def my_turn() -> bool:
                if self._queue[0][0] is not ticket or self._writing:
                    return False
                return not (alone and self._readers)

            self._changed.wait_for(my_turn)
            self._queue.popleft()
            if alone:
                self._writing = True
            else:
                self._readers += 1
            self._changed.notify_all()
