"""Who was judged beside whom. One for whom memory ran out in company is judged once more, alone: it may have been
another's doing, since the kernel picks whom it kills, and candidates share a GPU's memory. So is one whose nursery
died, and one that was ended with all others because somebody kept the GPU busy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from kernelgrove.model import Basis, EvaluationResult, Outcome

from .sittings.sitting import EXPELLED
from .turns.locks import Turns


class Company:
    """Thread-safe."""

    def __init__(self, recover: Callable[[], None]) -> None:
        """*recover* has the judge give back what memory it can."""
        self._recover = recover
        self._turns = Turns()
        self._lock = threading.Lock()
        self._present: dict[object, bool] = {}  # whether somebody else was there, at any time

    def judge(self, once: Callable[[], EvaluationResult]) -> EvaluationResult:
        """What *once* finds; what it finds alone where that may differ."""
        with self._turns.shared():
            me = object()
            with self._lock:
                self._present = dict.fromkeys(self._present, True)
                self._present[me] = bool(self._present)
            try:
                found = once()
            finally:
                with self._lock:
                    accompanied = self._present.pop(me)
        if not (accompanied and (_ran_out(found) or _was_anothers(found))):
            return found
        with self._turns.alone():
            self._recover()
            again = once()
        return replace(
            again, wall_s=found.wall_s + again.wall_s, detail={**again.detail, "judged_again_after": found.message}
        )


def _ran_out(found: EvaluationResult) -> bool:
    """Whether memory that others use too may have been short. The host's allocations fail at a worker's own limit."""
    if found.outcome is Outcome.OUT_OF_MEMORY and found.basis is Basis.MEASURED:
        return " MemoryError" not in f" {found.message}"
    return found.outcome in (Outcome.OUT_OF_MEMORY, Outcome.WORKER_DIED) and "SIGKILL" in found.message


def _was_anothers(found: EvaluationResult) -> bool:
    """Whether it was ended with others beside it."""
    ended = found.outcome is Outcome.WORKER_DIED
    return ended and (EXPELLED in found.message or "its nursery died" in found.message)
