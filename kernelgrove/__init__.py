"""KernelGrove: search for faster GPU kernels.

``kernelgrove.open("grove.db")`` reads what searches found (docs/groves.md). Importing this package imports nothing
heavy, so that ``--help`` is quick and a bare GPU image that has only torch and triton can run
``kernelgrove.engine.evaluator.inside.worker``.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``open`` at its first use: it brings SQLAlchemy along."""
    if name == "open":
        from .api import open

        return open
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
