"""Modules imported at their first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for the module *name* until something of it is asked for. Thread-safe, as importing is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self._name), attribute)
        setattr(self, attribute, found)  # from now on it is found without coming here
        return found
