"""What a search may use, and what is left. Pure arithmetic: no clock, no store.

A budget that is used up ends the search (``finished``); resuming with a higher one goes on. Evaluations in flight
are counted as used (every implement and repair job may become one), so the cap on evaluations is exact; dollars and
tokens of calls in flight count at their reservation, so those caps are passed by at most what a call costs beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from ..model import ImplementationView, JobKind, StoppedBy, TreeView
from ..ports import Store
from ..strategies.allocation import better

#: Kinds of job that end in an evaluation, or may.
_EVALUATED = (JobKind.IMPLEMENT, JobKind.REPAIR, JobKind.EVALUATE)


class Costs(Protocol):
    """What proposer calls cost: settled ones, and the reservations of those in flight."""

    @property
    def cost_usd(self) -> float: ...

    @property
    def tokens(self) -> int: ...

    @property
    def reserved_usd(self) -> float: ...

    @property
    def reserved_tokens(self) -> int: ...


class Ledger(Store, Protocol):
    """A store that sums up its ledger of proposer calls, over all sessions of a search."""

    def spent(self, search: int) -> Costs: ...

    def spent_by_model(self, search: int) -> Mapping[str, tuple[int, int, float]]:
        """model -> calls that are over, those among them whose price is not known, dollars."""


@dataclass(frozen=True)
class Spent:
    """What a search has used so far, over all of its sessions. ``pending``: evaluations that jobs in flight may
    become; ``reserved_*``: of proposer calls in flight; ``stale``: evaluations since the best one."""

    evaluations: int = 0
    pending: int = 0
    seconds: float = 0.0
    dollars: float = 0.0
    tokens: int = 0
    reserved_dollars: float = 0.0
    reserved_tokens: int = 0
    stale: int = 0


@dataclass(frozen=True)
class Budget:
    """Caps; None is no cap. ``patience``: evaluations in a row that may pass without a new best."""

    evaluations: int | None = None
    seconds: float | None = None
    dollars: float | None = None
    tokens: int | None = None
    patience: int | None = None

    @staticmethod
    def of(options: Mapping[str, Any]) -> Budget:
        """From a search's stored options (``budget_evals``, ``budget_time``, …)."""
        return Budget(**{field: options.get(key) for field, key in OPTION_NAMES.items()})

    def exhausted(self, spent: Spent) -> StoppedBy | None:
        """The first cap that is reached, work in flight aside."""
        if _reached(self.evaluations, spent.evaluations):
            return StoppedBy.EVALUATIONS
        if _reached(self.seconds, spent.seconds):
            return StoppedBy.TIME
        if _reached(self.dollars, spent.dollars):
            return StoppedBy.DOLLARS
        if _reached(self.tokens, spent.tokens):
            return StoppedBy.TOKENS
        if _reached(self.patience, spent.stale):
            return StoppedBy.PATIENCE
        return None

    def slots_left(self, spent: Spent, wanted: int) -> int:
        """How many of *wanted* new jobs may be planned: none past a cap, none that could pass the evaluations' cap."""
        if self.exhausted(spent) is not None or wanted <= 0:
            return 0
        if _reached(self.dollars, spent.dollars + spent.reserved_dollars):
            return 0
        if _reached(self.tokens, spent.tokens + spent.reserved_tokens):
            return 0
        if self.evaluations is None:
            return wanted
        return max(0, min(wanted, self.evaluations - spent.evaluations - spent.pending))

    def raised_over(self, other: Budget, stopped_by: StoppedBy) -> bool:
        """Whether the cap that stopped a search under *other* is higher here, or gone."""
        name = _CAP.get(stopped_by)
        if name is None:
            return False
        here, there = getattr(self, name), getattr(other, name)
        return there is not None and (here is None or here > there)


#: Field of Budget -> key in ``SearchSpec.options``.
OPTION_NAMES: Mapping[str, str] = {
    "evaluations": "budget_evals",
    "seconds": "budget_time",
    "dollars": "budget_usd",
    "tokens": "budget_tokens",
    "patience": "patience",
}
assert set(OPTION_NAMES) == {field.name for field in fields(Budget)}

_CAP: Mapping[StoppedBy, str] = {
    StoppedBy.EVALUATIONS: "evaluations",
    StoppedBy.TIME: "seconds",
    StoppedBy.DOLLARS: "dollars",
    StoppedBy.TOKENS: "tokens",
    StoppedBy.PATIENCE: "patience",
}


def _reached(cap: float | None, used: float) -> bool:
    return cap is not None and used >= cap


def evaluations_used(view: TreeView) -> int:
    """Evaluations made in this search: one a program, and one each time a program was measured again. A duplicate is
    not judged again and does not count."""
    return sum({i.program: 1 + len(i.remeasured) for i in view.judged()}.values())


def evaluations_pending(view: TreeView) -> int:
    """Evaluations that jobs in flight are or may become."""
    return len(view.in_flight(*_EVALUATED))


def evaluations_since_best(view: TreeView) -> int:
    """Programs judged after the one that set the best time, in the order in which they were judged. It set it if its
    interval, where it has one, says that it is better than all before.

    Zero while nothing has passed: patience is for a search that stands still, not for one that has not started.
    """
    first: dict[str, tuple[int, ImplementationView]] = {}
    for i in view.judged():
        first.setdefault(i.program, (min(e.id for e in (i.evaluation, *i.remeasured) if e is not None), i))
    best: ImplementationView | None = None
    stale = 0
    for _, i in sorted(first.values(), key=lambda pair: pair[0]):
        stale += best is not None
        if i.ok and i.time_ms is not None and (best is None or better(i, best)):
            best, stale = i, 0
    return stale
