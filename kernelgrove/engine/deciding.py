"""What a search does next: what its strategy proposes, unless its leader leaves nothing to gain."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..errors import KernelGroveError
from ..model import Action, Stop, TreeView
from ..ports import PlannedJob, Store, Strategy
from ..strategies.allocation import confirmation
from ..strategies.fold import fold
from ..strategies.pruners import nothing_left
from .calls import describe
from .context import stable_seed
from .planning import BrokenContract, decide, plan


class StrategyFailed(KernelGroveError):
    """A strategy raised, or asked for what its contract forbids: a bug in the strategy."""

    exit_code = 3


class Decider:
    """Asks *strategy*, and checks what it says. Writes nothing."""

    def __init__(self, store: Store, strategy: Strategy) -> None:
        self._store = store
        self._strategy = strategy
        self._floor: tuple[int, float | None] | None = None  # of the evaluation of this id

    def decide(self, view: TreeView, slots: int) -> tuple[Sequence[Action], Sequence[PlannedJob]]:
        """Actions, and the jobs that they come to, no more than *slots*. Raises StrategyFailed."""
        ended = self._nothing_left(view)
        rng = random.Random(stable_seed(view.seed, f"step:{view.step}"))
        try:
            actions = ended or decide(self._strategy, view, slots, rng)
            if any(isinstance(action, Stop) for action in actions):
                actions = [*confirmation(view)] or actions
            return actions, plan(view, actions, slots)
        except BrokenContract as error:
            raise StrategyFailed(f"Strategy {self._strategy.name!r} broke its contract: {error}.") from error
        except Exception as error:
            raise StrategyFailed(
                f"Strategy {self._strategy.name!r} failed at step {view.step}: {describe(error)}.",
                "This is a bug in the strategy; the search can be resumed once it is mended.",
            ) from error

    def _nothing_left(self, view: TreeView) -> list[Action]:
        """A stop, where the leader takes what moving its bytes once takes; the evaluator may know what that is."""
        leader = fold(view).leader
        limits = getattr(self._strategy, "limits", None)
        if leader is None or leader.evaluation is None or not getattr(limits, "prune", True):
            return []
        if self._floor is None or self._floor[0] != leader.evaluation.id:
            detail = self._store.profile(leader.evaluation.id).get("detail") or {}
            self._floor = (leader.evaluation.id, detail.get("floor_ms"))
        reason = nothing_left(leader, self._floor[1]) if self._floor[1] else None
        return [Stop(reason)] if reason else []
