"""Where an evaluation's time goes, stage by stage. One thread's; laps may lie inside each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Laps:
    """``seconds`` by name. A lap inside another counts for the inner one alone, so that all add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]

    @contextlib.contextmanager
    def lap(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - started
            own = whole - self._inside.pop()
            self._inside[-1] += whole
            self.seconds[name] = round(self.seconds.get(name, 0.0) + own, 4)
