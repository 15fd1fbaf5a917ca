"""``@triton.autotune`` without timing: the first configuration that is valid, chosen once a key as on the device.

Everything else stays Triton's own: pruning hooks, ``pre_hook``, ``reset_to_zero`` and ``restore_value`` run when the
device would run them for the chosen configuration (that is, ``reset_to_zero`` on the first call of a key only).
"""

from __future__ import annotations

from typing import Any

from .errors import StaticAssertFailed
from .internals import OUT_OF_RESOURCES, Autotuner

_REFUSED = "_kernelgrove_refused"


def patch_autotuner() -> None:
    """Replace the benchmark by a verdict, and try the next configuration where one is refused."""
    stock_run = Autotuner.run

    def bench(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        conflicts = meta.keys() & config.kwargs.keys()
        if conflicts:
            raise ValueError(
                f"Conflicting meta-parameters: {', '.join(sorted(conflicts))}. Make sure that you don't re-define "
                "auto-tuned symbols."
            )
        refused = any(config is each for each in self.__dict__.get(_REFUSED, ()))
        return [float("inf") if refused else 1.0] * 3

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return stock_run(self, *args, **kwargs)
            except (OUT_OF_RESOURCES, StaticAssertFailed):
                refused = self.__dict__.setdefault(_REFUSED, [])
                config = self.best_config
                if any(config is each for each in refused) or len(refused) + 1 >= len(self.configs):
                    raise
                refused.append(config)
                self.cache = {key: kept for key, kept in self.cache.items() if kept is not config}

    Autotuner._bench = bench
    Autotuner.run = run
