"""Every error a user can meet. Each says what is wrong, where, and what to do; none shows a traceback.

::

    KernelGroveError                exit code 2 unless said otherwise
    ├── UsageError                  an option or argument is wrong
    ├── ProblemError                the problem file or its reference is at fault
    ├── StoreError                  the database cannot be used
    │   ├── NotFound                no such search, node, implementation, evaluation
    │   │   └── EmptyGrove          a database file in which nothing was ever committed
    │   └── Conflict                another controller moved the search on
    ├── EnvironmentLacks            exit code 3: a device, driver or package is missing
    │   └── SandboxError            a required layer of the worker sandbox is missing (evaluator/sandbox/layers.py)
    ├── ProposerError               a proposer could not answer (``retry``: asking again may help)
    │   └── CallFailed              one try at a paid call failed; says how (engine/proposers/failures.py)
    ├── ProposerUnusable            exit code 3: no call of this proposer can succeed (key, quota, model)
    ├── EvaluatorError              exit code 3: the judge itself cannot go on
    └── StrategyFailed              exit code 3: a strategy raised or broke its contract (engine/deciding.py)
"""

from __future__ import annotations


class KernelGroveError(Exception):
    """Base of all; ``cause`` is what happened, ``cure`` what to do about it (may be empty)."""

    exit_code = 2

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause} {cure}".strip())
        self.cause = cause
        self.cure = cure


class UsageError(KernelGroveError):
    """An option or argument is wrong, or options contradict each other."""


class ProblemError(KernelGroveError):
    """A problem file does not parse, lacks ``Model``, ``get_inputs`` or ``get_init_inputs``, or does not run."""


class StoreError(KernelGroveError):
    """A database is not ours, read-only, newer than this program, or damaged."""


class NotFound(StoreError):
    """An id that is not in this database."""


class EmptyGrove(NotFound):
    """A database file in which nothing was ever committed: its first process was killed before it stored a search."""


class Conflict(StoreError):
    """Another controller moved the search on; this one must reload."""


class EnvironmentLacks(KernelGroveError):
    """Something outside is missing: a GPU, a driver, a package, a required sandbox layer."""

    exit_code = 3


class ProposerError(KernelGroveError):
    """A proposer could not answer. ``retry`` is True where asking again may help."""

    def __init__(self, cause: str, cure: str = "", *, retry: bool = False) -> None:
        super().__init__(cause, cure)
        self.retry = retry


class ProposerUnusable(KernelGroveError):
    """No call of this proposer can succeed until a person has acted: its key, its quota or its model is wrong."""

    exit_code = 3


class EvaluatorError(KernelGroveError):
    """The judge died or cannot start; the candidate is not to blame."""

    exit_code = 3
