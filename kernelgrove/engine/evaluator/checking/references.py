"""The references of the problems that a judge was asked about last."""

from __future__ import annotations

import threading
from collections import OrderedDict

from kernelgrove.errors import EvaluatorError
from kernelgrove.model import Instance

from ..inside.candidate import set_precision
from .judged_reference import JudgedReference

_REFERENCES = 8  # that are kept


class References:
    """References by instance and precision, for one device; together they keep *budget_bytes* of cases. Thread-safe."""

    def __init__(self, device: str, budget_bytes: int) -> None:
        self.device = device
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], JudgedReference] = OrderedDict()
        self._precision: str | None = None

    def get(self, instance: Instance, precision: str) -> JudgedReference:
        """Raises EvaluatorError where another policy is asked for: PyTorch's flags are the whole process's."""
        with self._lock:
            if self._precision is None:
                set_precision(precision)
                self._precision = precision
            elif precision != self._precision:
                raise EvaluatorError(f"this judge works at --precision {self._precision}, not {precision}.")
            key = (f"{instance.digest}:{instance.key}", precision)
            if key not in self._known:
                self._known[key] = JudgedReference(instance, self.device, precision, self._budget)
                while len(self._known) > _REFERENCES:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            kept = sum(reference.kept_bytes for reference in self._known.values())
            for other, reference in self._known.items():  # the one that was asked for longest ago first
                if kept > self._budget and other != key:
                    kept -= reference.kept_bytes
                    reference.forget(wait=False)
            return self._known[key]
