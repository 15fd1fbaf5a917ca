"""Which of several models answers a job: by weight, or by what each has brought for its money so far.

The choice depends on the search's seed, the job's key and what is in the store, never on the clock; it is recorded
with the completion, the node and the implementation that come of it.

``weights``: each model gets its share. Variants of one idea go round, so that every model writes some of them.

``bandit``: the model with the highest upper confidence bound on improvement per dollar, UCB1 (Auer, Cesa-Bianchi and
Fischer, 2002) with rewards scaled by the best model's. The reward of an answer is log(base time / its time) where it
is faster than what it built on, else 0; an idea earns the best reward of its implementations. Its price is the mean of
what the model's calls have cost, at least ``FLOOR_USD``; a model whose price is unknown is taken to cost what the
others do. Answers not judged yet count as asked, with no reward, so that calls in flight spread out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..model import ImplementationView, JobKind, TreeView
from ..ports import Job, Proposer
from .context import stable_seed

POLICIES = ("weights", "bandit")

#: Dollars that a call is taken to cost at the least: a free model is not infinitely better than a paid one.
FLOOR_USD = 0.001

#: Width of the confidence bound; sqrt(2) is UCB1's, for rewards in [0, 1].
WIDTH = math.sqrt(2)


@dataclass(frozen=True)
class Spending:
    """What one model's calls have cost in one search. *priced* counts those whose price is known."""

    calls: int = 0
    priced: int = 0
    cost_usd: float = 0.0


def spending(by_model: Mapping[str, tuple[int, int, float]]) -> dict[str, Spending]:
    """Of each model its calls, those among them without a price, and dollars, as the ledger tells them."""
    return {model: Spending(calls, calls - unpriced, dollars) for model, (calls, unpriced, dollars) in by_model.items()}


@dataclass(frozen=True)
class Panel:
    """Proposers with their weights, and the policy that chooses among them."""

    proposers: tuple[Proposer, ...]
    weights: tuple[float, ...] = ()
    policy: str = "weights"

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1.0,) * len(self.proposers))
        if len(self.weights) != len(self.proposers) or any(not w > 0 for w in self.weights):
            raise UsageError("Every model needs a weight above zero.", "Write --model openai:gpt-5=2.")
        if self.policy not in POLICIES:
            raise UsageError(f"There is no policy {self.policy!r}.", f"There is {' and '.join(POLICIES)}.")

    @staticmethod
    def of(proposers: Panel | Sequence[Proposer]) -> Panel:
        return proposers if isinstance(proposers, Panel) else Panel(tuple(proposers))

    def __bool__(self) -> bool:
        return bool(self.proposers)

    @property
    def learns(self) -> bool:
        """Whether the choice wants to know what each model has cost."""
        return self.policy == "bandit" and len(self.proposers) > 1


def choose(panel: Panel, job: Job, view: TreeView, spent: Mapping[str, Spending], busy: Mapping[str, int]) -> Proposer:
    """Who answers *job*. *spent* and *busy* (calls in flight) are by model, and wanted only where the panel learns."""
    if len(panel.proposers) == 1:
        return panel.proposers[0]
    if panel.learns:
        return panel.proposers[_bandit(panel, view, spent, busy, stable_seed(view.seed, job.key))]
    if job.kind is JobKind.IMPLEMENT and job.node is not None and job.node in view.nodes:
        first = stable_seed(view.seed, view.nodes[job.node].address) % _ROUND
        return panel.proposers[_in_turn(panel.weights, first + int(job.payload.get("variant", 0)))]
    share = stable_seed(view.seed, job.key) / 2**63 * sum(panel.weights)
    for index, weight in enumerate(panel.weights):
        share -= weight
        if share < 0:
            return panel.proposers[index]
    return panel.proposers[-1]


#: Turns by weight start somewhere in the first so many, by the node.
_ROUND = 64


def _in_turn(weights: Sequence[float], turn: int) -> int:
    """Who comes at *turn* where each comes as often as its weight, as evenly as can be (smooth weighted round robin:
    credit grows by weight, who has most comes and pays the sum)."""
    total = sum(weights)
    credit = [0.0] * len(weights)
    chosen = 0
    for _ in range(turn + 1):
        credit = [c + w for c, w in zip(credit, weights, strict=True)]
        chosen = max(range(len(weights)), key=lambda i: (credit[i], -i))
        credit[chosen] -= total
    return chosen


# --------------------------------------------------------------------------------------------------- learning


def rewards(view: TreeView) -> dict[str, list[float]]:
    """model -> the reward of each of its answers that are judged."""
    found: dict[str, list[float]] = {}
    best_of_node: dict[int, float] = {}
    for made in view.implementations.values():
        if made.evaluation is None:
            continue
        reward = _reward(view, made)
        found.setdefault(made.model, []).append(reward)
        best_of_node[made.node] = max(best_of_node.get(made.node, 0.0), reward)
    for node, reward in best_of_node.items():
        model = view.nodes[node].model
        if model and node != view.root:
            found.setdefault(model, []).append(reward)
    return found


def _reward(view: TreeView, made: ImplementationView) -> float:
    time, before = made.time_ms, _before(view, made)
    if not made.ok or not time or not before:
        return 0.0
    return max(0.0, math.log(before / time))


def _before(view: TreeView, made: ImplementationView) -> float | None:
    """The time that *made* had to beat: its base's on the same basis, else the eager reference's."""
    assert made.evaluation is not None
    base = view.nodes[made.node].base
    if base is not None and base in view.implementations:
        found = view.implementations[base].evaluation
        if found is not None and found.basis is made.evaluation.basis and found.time_ms:
            return found.time_ms
    return made.evaluation.baselines.get("eager")


def _bandit(panel: Panel, view: TreeView, spent: Mapping[str, Spending], busy: Mapping[str, int], seed: int) -> int:
    names = [proposer.name for proposer in panel.proposers]
    earned = rewards(view)
    prices = _prices(names, spent)
    pulls = [len(earned.get(n, ())) + busy.get(n, 0) for n in names]
    untried = [i for i, n in enumerate(pulls) if n == 0]
    if untried:  # heaviest first, and among equals by the seed
        return max(untried, key=lambda i: (panel.weights[i], (seed >> i) & 1, -i))
    values = [sum(earned.get(n, ())) / p / prices[n] for n, p in zip(names, pulls, strict=True)]
    best = max(values) or 1.0
    total = sum(pulls)
    bounds = [v / best + WIDTH * math.sqrt(math.log(total) / p) for v, p in zip(values, pulls, strict=True)]
    return max(range(len(names)), key=lambda i: (bounds[i], panel.weights[i], -i))


def _prices(names: Sequence[str], spent: Mapping[str, Any]) -> dict[str, float]:
    known = {
        name: max(FLOOR_USD, spent[name].cost_usd / spent[name].priced)
        for name in names
        if name in spent and spent[name].priced
    }
    usual = sum(known.values()) / len(known) if known else FLOOR_USD
    return {name: known.get(name, usual) for name in names}
