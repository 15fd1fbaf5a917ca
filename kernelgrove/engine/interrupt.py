"""Ctrl-C: once to finish what runs, twice to stop now. SIGTERM, which is followed by SIGKILL, stops now at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Stoppable(Protocol):
    def stop_softly(self) -> None: ...

    def stop_now(self) -> None: ...


@contextmanager
def guard(search: Stoppable) -> Iterator[None]:
    """While inside, signals stop *search* in order. Outside the main thread, where none arrive, this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or signum != signal.SIGINT:
            search.stop_now()
        else:
            asked = True
            search.stop_softly()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
