"""Who has the GPU to himself, and what is done where it is busy all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from ..sittings.laps import Laps
from ..sittings.sitting import EXPELLED, Again, Expelled, Restless
from ..turns.locks import Turns
from ..workers.handle import Worker
from ..workers.standby import Standby
from .stillness import wait_idle

#: How long others' kernels have to end before somebody is timed, and a candidate's own after it said that it was done.
_IDLE_LIMIT_S, _LEFT_OVER_S = 3.0, 0.5


class Exclusive:
    """Exclusive use of *device*, whose candidates all come from *nursery*. ``shared``: whether programs use it that
    know nothing of turns."""

    def __init__(
        self, device: str, turns: Turns, nursery: Standby, first: Callable[[], None], settle: Callable[[], object]
    ) -> None:
        """*first* is what nobody can be alone before, *settle* waits until the device's memory is fast."""
        self._device, self._turns, self._nursery, self._first = device, turns, nursery, first
        self._settle = settle
        self.shared = not wait_idle(device, _IDLE_LIMIT_S)

    @contextlib.contextmanager
    def alone(self, *keep: Worker, laps: Laps | None = None) -> Iterator[None]:
        """The GPU for oneself: nobody else is asked anything, and of all candidates only those in *keep* run, once it
        was seen that the GPU is idle while even they stand still. What others have left running has some time to end.

        Raises Rejected where one in *keep* is what keeps the GPU busy, Again where it was a process of somebody else's,
        Expelled where it was another candidate.
        """
        laps = laps or Laps()
        self._first()
        with self._turns.alone(), contextlib.ExitStack() as frozen:
            with laps.lap("stopping the others"):
                frozen.enter_context(self._nursery.frozen(keep))
                if not self.shared:
                    with self._nursery.frozen():
                        idle = wait_idle(self._device, _IDLE_LIMIT_S)
                    if not idle:
                        self._blame(keep)
            yield

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """No candidate runs. Raises Rejected where one has work running on the GPU that it had called done; where
        others than candidates use the GPU, that cannot be told."""
        with self._nursery.frozen():
            if not self.shared and not wait_idle(self._device, _LEFT_OVER_S):
                raise Restless("work of its own was still running on the GPU after forward had handed over its outputs")
            yield

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """``still``, and nothing that was freed is being cleared."""
        with self.still():
            self.settle()
            yield

    def settle(self) -> None:
        """Let the driver clear what was freed. Where others use the GPU, that cannot be told from what they do."""
        if not self.shared:
            self._settle()

    def _blame(self, workers: Sequence[Worker]) -> None:
        """The GPU is busy while every candidate stands still: is it for what one of *workers* had queued?"""
        for worker in workers:
            worker.stop()
        if workers and wait_idle(self._device, _IDLE_LIMIT_S):
            raise Restless("it keeps the GPU busy between its calls")
        # A kernel runs on though its process stands still, whoever's turn it is.
        expelled = self._nursery.expel(EXPELLED)
        if wait_idle(self._device, _IDLE_LIMIT_S):
            raise Expelled(EXPELLED) if expelled else Again("another process used the GPU for a while")
        self.shared = True
        raise Again("another process began to use the GPU")
