"""The money of one search: a call is made only if it fits under the caps with all that is in flight.

What a call may cost at most is reserved in the ledger before it is sent, and settled when it has ended, so the caps
hold whatever happens in between: calls cut off by a crash are charged at their reservation. A cap is passed only by
what a provider bills beyond the reservation (more input tokens than were bounded).
"""

from __future__ import annotations

import threading
from typing import Any

from ..model import StoppedBy, Usage
from ..ports import Job, Proposal, ProposalRequest
from .budget import Budget, Ledger
from .proposers.limits import Halted


class OverBudget(Exception):
    """The call does not fit under a cap, and nothing in flight will make room for it."""

    def __init__(self, by: StoppedBy, words: str) -> None:
        super().__init__(words)
        self.by = by


class Purse:
    """Plans and settles the calls of one search. Thread-safe; one a controller."""

    def __init__(self, store: Ledger, search: int, budget: Budget) -> None:
        self._store = store
        self._search = search
        self._budget = budget
        self._changed = threading.Condition()

    def plan(self, job: Job, model: str, request: ProposalRequest, reserve: Usage, halt: threading.Event) -> int:
        """A row in the ledger, with *reserve* set aside, once it fits. Waits while calls in flight may make room.

        Raises OverBudget where nothing will, Halted when *halt* is set meanwhile.
        """
        tokens = reserve.input_tokens + reserve.output_tokens
        dollars = reserve.cost_usd or 0.0
        with self._changed:
            while True:
                if halt.is_set():
                    raise Halted
                over = self._over(dollars, tokens)
                if over is None:
                    return self._store.plan_completion(job, model, request, dollars, tokens)
                spent = self._store.spent(self._search)
                if spent.reserved_usd <= 0 and spent.reserved_tokens <= 0:
                    raise over
                self._changed.wait(0.25)  # a call of this search may be settled elsewhere

    def settle(self, completion: int, ok: bool, proposal: Proposal | None, error: str | None, **more: Any) -> None:
        with self._changed:
            self._store.settle_completion(completion, ok, proposal, error, **more)
            self._changed.notify_all()

    def _over(self, dollars: float, tokens: int) -> OverBudget | None:
        """The cap that a call of so much would pass."""
        budget = self._budget
        if budget.dollars is None and budget.tokens is None:
            return None
        spent = self._store.spent(self._search)
        if budget.dollars is not None and spent.cost_usd + spent.reserved_usd + dollars > budget.dollars:
            return OverBudget(
                StoppedBy.DOLLARS,
                f"${spent.cost_usd:.4g} of ${budget.dollars:g} are spent, and the next call may cost ${dollars:.4g}",
            )
        if budget.tokens is not None and spent.tokens + spent.reserved_tokens + tokens > budget.tokens:
            return OverBudget(
                StoppedBy.TOKENS,
                f"{spent.tokens} of {budget.tokens} tokens are used, and the next call may take {tokens}",
            )
        return None
