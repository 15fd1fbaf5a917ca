"""What a running search tells whoever watches: typed, frozen, plain values. The live view and the log read these.

Events are told from the controller's own thread, after what they tell of is committed. A listener must return soon
and not raise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model import Basis, JobKind, Outcome, StoppedBy
from .budget import Budget, Spent


@dataclass(frozen=True)
class SearchStarted:
    search: int
    resumed: bool
    recovered: int  # jobs taken back from a controller that died


@dataclass(frozen=True)
class RoundStarted:
    round: int


@dataclass(frozen=True)
class JobStarted:
    """``what`` names it for people: the proposer and the idea; ``job`` tells it apart from others in flight."""

    job: int
    kind: JobKind
    key: str
    what: str
    attempt: int


@dataclass(frozen=True)
class JobFinished:
    """``error`` is None for a job that did its work (a candidate that fails is judged: its work is done).

    For ``evaluate``: outcome, message, time, speedup over the eager reference, all on ``basis``, and how it was timed.
    """

    job: int
    kind: JobKind
    key: str
    wall_s: float
    idea: str | None = None
    node: int | None = None
    implementation: int | None = None
    outcome: Outcome | None = None
    message: str = ""
    time_ms: float | None = None
    speedup: float | None = None
    basis: Basis | None = None
    timing: str | None = None
    error: str | None = None
    again: bool = False  # failed, and queued once more


@dataclass(frozen=True)
class NodeAdded:
    node: int
    parent: int | None
    address: str
    round: int
    idea: str
    category: str


@dataclass(frozen=True)
class NodePruned:
    node: int
    idea: str
    because: str


@dataclass(frozen=True)
class NewBest:
    implementation: int
    idea: str
    time_ms: float
    speedup: float | None
    basis: Basis


@dataclass(frozen=True)
class BudgetTick:
    """What is used of what may be, after every change and at least every few seconds."""

    budget: Budget
    spent: Spent


@dataclass(frozen=True)
class Note:
    """One line that a proposer or the controller wants a person to read."""

    source: str
    text: str


@dataclass(frozen=True)
class Stopping:
    """An orderly stop was asked for; *running* jobs are still to finish."""

    running: int


@dataclass(frozen=True)
class Stopped:
    by: StoppedBy
    because: str
    spent: Spent = field(default_factory=Spent)


Event = (
    SearchStarted
    | RoundStarted
    | JobStarted
    | JobFinished
    | NodeAdded
    | NodePruned
    | NewBest
    | BudgetTick
    | Note
    | Stopping
    | Stopped
)
