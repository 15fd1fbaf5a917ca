"""A nursery that is always there: replaced when it has died, and asked twice."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from kernelgrove.errors import EvaluatorError

from .. import sandbox
from .handle import Order, Worker
from .nurseries import Nursery

_NOTICE_S = 1.0  # in which a nursery's death is noticed


class Standby:
    """A nursery that is replaced by a new one when it has died. Thread-safe."""

    def __init__(self, mode: str, policy: sandbox.Policy, environment: Mapping[str, str]) -> None:
        self._make: Callable[[], Nursery] = partial(Nursery, mode, policy, environment)
        self._lock = threading.Lock()
        self._nursery = self._make()

    def fork(self, device: str, facts: Mapping[str, Any], order: Order) -> Worker:
        """A fresh worker, ready for a candidate. Raises EvaluatorError when a second one does not start either: it has
        run nothing yet, so that one that is killed (workers are the first to go when memory runs out) says nothing."""
        first = self._living()
        try:
            return first.fork(device, facts, order)
        except EvaluatorError:
            first.is_dead(_NOTICE_S)  # it may have died in the middle of it
        return self._living().fork(device, facts, order)

    def _living(self) -> Nursery:
        with self._lock:
            if not self._nursery.alive:
                self._nursery.close()
                self._nursery = self._make()
            return self._nursery

    def frozen(self, keep: Collection[Worker] = ()) -> contextlib.AbstractContextManager[bool]:
        """``Nursery.frozen``; a worker of an earlier nursery died with it."""
        return self._nursery.frozen([worker.pid for worker in keep])

    def expel(self, reason: str) -> bool:
        """``Nursery.expel``."""
        return self._nursery.expel(reason)

    def close(self) -> None:
        with self._lock:
            self._nursery.close()
