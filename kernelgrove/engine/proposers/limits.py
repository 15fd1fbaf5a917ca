"""How much may be asked of one provider at once: calls in flight, requests and tokens a minute.

All models of one provider at one address share a limit, as they share an account. Waiting ends early when the search
is stopped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MINUTE_S = 60.0


class Halted(Exception):
    """The search is being stopped: nothing new is to be sent."""


@dataclass(frozen=True)
class Limits:
    """None is no limit. Rates are over any window of a minute."""

    concurrency: int = 8
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None


@dataclass
class _Sent:
    at: float
    tokens: int


class Limiter:
    """Admits calls one by one. *clock* counts seconds and is told to tests."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._in_flight = 0
        self._sent: deque[_Sent] = deque()
        self._quiet_until = 0.0

    @contextmanager
    def slot(self, tokens: int, halt: threading.Event | None = None) -> Iterator[Callable[[int], None]]:
        """Wait for a place, and hold it inside. *tokens* is what the call may use; the function that is given tells
        what it did use. Raises Halted."""
        sent = self._enter(tokens, halt)

        def used(actual: int) -> None:
            sent.tokens = actual

        try:
            yield used
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def quiet(self, seconds: float) -> None:
        """The provider asked to be left alone: no call of anybody starts before that."""
        with self._changed:
            self._quiet_until = max(self._quiet_until, self._clock() + seconds)

    def _enter(self, tokens: int, halt: threading.Event | None) -> _Sent:
        with self._changed:
            while True:
                if halt is not None and halt.is_set():
                    raise Halted
                wait = self._wait_s(tokens)
                if wait <= 0:
                    sent = _Sent(self._clock(), tokens)
                    self._sent.append(sent)
                    self._in_flight += 1
                    return sent
                self._changed.wait(min(wait, 0.25))  # short, since nobody is told of *halt*

    def _wait_s(self, tokens: int) -> float:
        """Seconds until a call of *tokens* may start, as things stand; 0 where it may now."""
        now = self._clock()
        while self._sent and now - self._sent[0].at >= MINUTE_S:
            self._sent.popleft()
        if now < self._quiet_until:
            return self._quiet_until - now
        if self._in_flight >= self.limits.concurrency:
            return MINUTE_S
        rate = self.limits.requests_per_minute
        if rate is not None and len(self._sent) >= rate:
            return self._sent[-rate].at + MINUTE_S - now
        allowed = self.limits.tokens_per_minute
        if allowed is not None and self._sent:  # a call larger than the rate goes alone
            excess = sum(s.tokens for s in self._sent) + tokens - allowed
            if excess > 0:
                for sent in self._sent:
                    excess -= sent.tokens
                    if excess <= 0:
                        return sent.at + MINUTE_S - now
                return self._sent[-1].at + MINUTE_S - now
        return 0.0


_shared: dict[tuple[str, Limits], Limiter] = {}
_lock = threading.Lock()


def shared(account: str, limits: Limits) -> Limiter:
    """The limiter of *account* (a provider at an address) in this process."""
    with _lock:
        return _shared.setdefault((account, limits), Limiter(limits))
