"""Who waits for whom: a readers-writer lock in phases (candidates are checked together, and timed alone, many of each
before the other), and a queue in which some go first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Phases take turns: all who wait to be alone when their phase begins, one after the other, then all who wait to
    share, together. Neither side starves, and nobody waits for a phase of one. (Brandenburg and Anderson, "Spin-based
    reader-writer synchronization for multiprocessor real-time systems", 2010, call such locks phase-fair.)
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self._admitted_alone = 0  # who may still be alone in the phase that runs
        self._waiting_alone = 0
        self._admitted_sharing = 0  # sharers let in by the phase that begins, and not yet through
        self._waiting_sharing = 0
        self._last_alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            if self._alone or self._admitted_alone or self._waiting_alone:
                self._waiting_sharing += 1
                self._advance()
                self._changed.wait_for(lambda: self._admitted_sharing > 0)
                self._admitted_sharing -= 1
            else:
                self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._advance()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting_alone += 1
            self._advance()
            self._changed.wait_for(lambda: self._admitted_alone > 0 and not self._alone and not self._sharing)
            self._admitted_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._advance()

    def _advance(self) -> None:
        """Begin the next phase where none runs."""
        if self._alone or self._sharing or self._admitted_alone:
            self._changed.notify_all()
            return
        if self._waiting_sharing and not self._waiting_alone:
            self._admit_sharing()
        elif self._waiting_alone and not self._waiting_sharing:
            self._admit_alone()
        elif self._waiting_alone:  # both wait: the phase that did not run last
            (self._admit_sharing if self._last_alone else self._admit_alone)()
        self._changed.notify_all()

    def _admit_sharing(self) -> None:
        self._last_alone = False
        self._sharing += self._waiting_sharing
        self._admitted_sharing += self._waiting_sharing
        self._waiting_sharing = 0

    def _admit_alone(self) -> None:
        self._last_alone = True
        self._admitted_alone += self._waiting_alone
        self._waiting_alone = 0


class Ranks:
    """At most *most* at once; of those who wait, the lowest rank goes first, and within one who came first."""

    def __init__(self, most: int) -> None:
        self._changed = threading.Condition()
        self._free = most
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int]] = []

    @contextmanager
    def turn(self, rank: int) -> Iterator[None]:
        with self._changed:
            ticket = (rank, next(self._arrivals))
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()  # there may be room for the next one too
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
