"""What strategies read off a snapshot: an index worked out from a TreeView, once a decision, and nothing kept after it.

Each part is made when it is first asked for, in one pass over the nodes, implementations or jobs, so that a decision
over 10,000 nodes takes tens of milliseconds (``python -m benchmarks.strategies --decisions``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

from ..model import (
    Basis,
    EvaluationView,
    ImplementationView,
    JobKind,
    JobState,
    JobView,
    NodeState,
    NodeView,
    Outcome,
    TreeView,
)

#: Failures that a repair can act on: the message says what in the program is wrong.
REPAIRABLE = frozenset({Outcome.COMPILE_ERROR, Outcome.RUNTIME_ERROR, Outcome.WRONG_RESULT})

#: Where figures of several bases meet in one tree, the most trustworthy that has any is used, alone.
_TRUST = (Basis.MEASURED, Basis.PROJECTED, Basis.IMPORTED)

_PARTS = re.compile(r"\d+|\D+")


def among_siblings(node: NodeView) -> tuple[tuple[int, int, str], ...]:
    """A sort key for nodes with the same parent: the last part of the address, where alone they differ."""
    return by_address(node.address.rpartition(".")[2])


@lru_cache(maxsize=1 << 14)
def by_address(address: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which ``r.10`` follows ``r.9``."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in _PARTS.findall(address))


_NONE: frozenset[int] = frozenset()


@lru_cache(maxsize=64)
def _just(number: int) -> frozenset[int]:
    return frozenset({number})


_last: Fold | None = None


def fold(view: TreeView) -> Fold:
    """The index of *view*, which never changes. The last one made is at hand for whoever else decides over that view;
    what it holds follows from the view alone."""
    global _last
    found = _last
    if found is None or found.view is not view:
        found = _last = Fold(view)
    return found


def verdict(view: TreeView, implementation: ImplementationView) -> EvaluationView | None:
    """Its evaluation, or that of the same program found earlier; None while neither is there."""
    seen = implementation
    while seen.evaluation is None and seen.duplicate_of is not None:
        seen = view.implementations[seen.duplicate_of]
    return seen.evaluation


class Fold:
    """An index of one snapshot. Lists are in the order in which things came to be, unless it says otherwise; what
    decides between equals is the tree address, so that the order in which jobs ended matters only where it must."""

    def __init__(self, view: TreeView) -> None:
        self.view = view
        self.root = view.nodes[view.root]

    # ------------------------------------------------------------------------------------------------- the tree

    @cached_property
    def _children(self) -> dict[int | None, list[NodeView]]:
        found: dict[int | None, list[NodeView]] = {}
        for node in self.view.nodes.values():
            found.setdefault(node.parent, []).append(node)
        return found

    def children(self, node: int) -> Sequence[NodeView]:
        return self._children.get(node, ())

    @cached_property
    def _implementations(self) -> dict[int, list[ImplementationView]]:
        found: dict[int, list[ImplementationView]] = {}
        for i in self.view.implementations.values():
            found.setdefault(i.node, []).append(i)
        return found

    def implementations(self, node: int) -> Sequence[ImplementationView]:
        return self._implementations.get(node, ())

    @cached_property
    def _rounds(self) -> dict[int, list[NodeView]]:
        found: dict[int, list[NodeView]] = {}
        for node in self.view.nodes.values():
            if node.parent is not None:
                found.setdefault(node.round, []).append(node)
        return found

    def of_round(self, round_: int) -> Sequence[NodeView]:
        """The nodes of a round; the root, which is no round's idea, aside."""
        return self._rounds.get(round_, ())

    def open(self, node: int | None) -> bool:
        return node is not None and self.view.nodes[node].state is NodeState.OPEN

    def place(self, implementation: ImplementationView) -> tuple[object, ...]:
        """A sort key: round, then tree address. Stable whatever the order in which jobs finished."""
        return (self.view.nodes[implementation.node].round, by_address(implementation.address))

    # --------------------------------------------------------------------------------------------- jobs, by kind

    @cached_property
    def _by_kind(self) -> dict[JobKind, list[JobView]]:
        found: dict[JobKind, list[JobView]] = {kind: [] for kind in JobKind}
        for job in self.view.jobs:
            found[job.kind].append(job)
        return found

    def jobs(self, kind: JobKind) -> Sequence[JobView]:
        """All jobs of this kind, over or not, in the order in which they were planned."""
        return self._by_kind[kind]

    @cached_property
    def flying(self) -> list[JobView]:
        """Jobs that are queued or leased."""
        queued, leased = JobState.QUEUED, JobState.LEASED
        return [j for j in self.view.jobs if j.state is queued or j.state is leased]

    @cached_property
    def busy(self) -> dict[int | None, int]:
        """How many jobs are in flight on a node itself or on its implementations."""
        found: dict[int | None, int] = {}
        for job in self.flying:
            about = self.view.implementations.get(job.implementation or 0)
            for node in {job.node, about.node if about is not None else None} - {None}:
                found[node] = found.get(node, 0) + 1
        return found

    @cached_property
    def _begun(self) -> set[int | None]:
        return {job.node for job in self._by_kind[JobKind.IMPLEMENT]}

    @cached_property
    def begun(self) -> int:
        """How many ideas an implementation was asked for."""
        return len(self._begun) - (self.view.root in self._begun)

    @cached_property
    def unasked(self) -> list[NodeView]:
        """Open ideas that no implementation was asked for yet."""
        begun, root, open_ = self._begun, self.view.root, NodeState.OPEN
        return [n for id_, n in self.view.nodes.items() if id_ not in begun and n.state is open_ and id_ != root]

    @cached_property
    def translated(self) -> set[int]:
        """The variants of the reference's translation that were asked for."""
        root = self.view.root
        return {job.payload.get("variant", 0) for job in self._by_kind[JobKind.IMPLEMENT] if job.node == root}

    @cached_property
    def _asked(self) -> dict[int | None, frozenset[int]]:
        found: dict[int | None, frozenset[int]] = {}
        for job in self._by_kind[JobKind.IMPLEMENT]:
            one = _just(job.payload.get("variant", 0))
            before = found.get(job.node)
            found[job.node] = one if before is None else before | one
        return found

    def asked(self, node: int) -> frozenset[int]:
        """The variants of *node* that were ever asked for, whatever came of them."""
        return self._asked.get(node, _NONE)

    @cached_property
    def _asks(self) -> dict[int | None, list[JobView]]:
        found: dict[int | None, list[JobView]] = {}
        for job in self._by_kind[JobKind.IDEATE]:
            found.setdefault(job.node, []).append(job)
        return found

    def asks(self, node: int) -> Sequence[JobView]:
        """Requests for ideas under *node*, over or not."""
        return self._asks.get(node, ())

    @cached_property
    def rated(self) -> set[int]:
        """The nodes of which ratings were asked for."""
        return {node for job in self._by_kind[JobKind.RATE] for node in job.payload["nodes"]}

    @cached_property
    def _asked_of(self) -> dict[int | None, dict[int, int]]:
        found: dict[int | None, dict[int, int]] = {}
        for job in self._by_kind[JobKind.IDEATE]:
            rounds = found.setdefault(job.payload["base"], {})
            round_ = job.payload["round"]
            rounds[round_] = rounds.get(round_, 0) + job.payload["count"]
        return found

    def asked_of(self, implementation: int | None, before_round: int | None = None) -> int:
        """How many ideas were asked for that build on *implementation*, in earlier rounds alone if *before_round*."""
        rounds = self._asked_of.get(implementation, {})
        return sum(n for r, n in rounds.items() if before_round is None or r < before_round)

    def worth(self, implementation: ImplementationView, asked: int, spread: float) -> float:
        """How much another idea for this one promises, in nats: how fast it is, less *spread* for each of the *asked*
        ideas that were tried on it. So the fastest is built on until it has had its share, and then the next."""
        ms = self.ms(implementation)
        return (-math.log(ms) if ms else -math.inf) - spread * asked

    def dry(self, node: int, misses: int = 2) -> bool:
        """Whether *misses* requests for ideas under *node* brought nothing: there is nothing more to ask there."""
        asks = self.asks(node)
        if len(asks) < misses:
            return False
        over = sum(not j.in_flight for j in asks)
        if over < misses:
            return False
        # An address ends in the number of the request and that of the idea within it: r.0-1.
        gave = {child.address.rpartition(".")[2].partition("-")[0] for child in self.children(node)}
        return over - len(gave) >= misses

    @cached_property
    def repaired(self) -> dict[int, int]:
        """How often a repair of each implementation was asked for."""
        found: dict[int, int] = {}
        for job in self._by_kind[JobKind.REPAIR]:
            if job.implementation is not None:
                found[job.implementation] = found.get(job.implementation, 0) + 1
        return found

    # ------------------------------------------------------------------------------------------------- figures

    def verdict(self, implementation: ImplementationView) -> EvaluationView | None:
        return implementation.evaluation or verdict(self.view, implementation)

    @cached_property
    def _timed(self) -> tuple[Basis | None, dict[int, float]]:
        """The basis that is used, and milliseconds by implementation of all that passed on it."""
        found: dict[Basis, dict[int, float]] = {}
        ok = Outcome.OK
        for i in self.view.implementations.values():
            judged = i.evaluation or verdict(self.view, i)
            if judged is not None and judged.outcome is ok and judged.time_ms:  # a time of zero cannot be compared
                found.setdefault(judged.basis, {})[i.id] = judged.time_ms
        basis = next((b for b in _TRUST if b in found), None)
        return basis, found[basis] if basis else {}

    def ms(self, implementation: ImplementationView) -> float | None:
        """Milliseconds of one that passed, on the basis that is used; a duplicate has the time of its program."""
        return self._timed[1].get(implementation.id)

    @cached_property
    def passed(self) -> list[ImplementationView]:
        """Those that passed and have a time, of one basis, fastest first.

        Of those with the same program the one of the earliest round and lowest address stands for all: not the one
        that arrived first, so that the order in which jobs finish changes nothing.
        """
        times, every = self._timed[1], self.view.implementations
        ranked = sorted((i for i in times if every[i].duplicate_of is None), key=times.__getitem__)
        copies = self._copies
        found = [self.original(every[i]) if i in copies else every[i] for i in ranked]
        if any(times[a] == times[b] for a, b in pairwise(ranked)):
            found.sort(key=lambda i: (times[i.id], self.place(i)))
        return found

    @property
    def leader(self) -> ImplementationView | None:
        return self.passed[0] if self.passed else None

    @cached_property
    def best_ms(self) -> float | None:
        """The leader's milliseconds."""
        return self._timed[1][self.passed[0].id] if self.passed else None

    @cached_property
    def _best(self) -> dict[int, tuple[float, ImplementationView]]:
        found: dict[int, tuple[float, ImplementationView]] = {}
        every = self.view.implementations
        for id_, ms in self._timed[1].items():
            i = every[id_]
            node = i.node
            before = found.get(node)
            if before is None or ms < before[0] or (ms == before[0] and self.place(i) < self.place(before[1])):
                found[node] = (ms, i)
        return found

    def best_of(self, node: int) -> ImplementationView | None:
        """The node's fastest that passed."""
        found = self._best.get(node)
        return found[1] if found is not None else None

    def bank(self, k: int, before_round: int | None = None) -> list[ImplementationView]:
        """The best *k* that passed across rounds (those before *before_round*), on nodes that are not pruned."""
        found: list[ImplementationView] = []
        for i in self.passed:
            node = self.view.nodes[i.node]
            if node.state is NodeState.OPEN and (before_round is None or node.round < before_round):
                found.append(i)
                if len(found) == k:
                    break
        return found

    @cached_property
    def baseline_ms(self) -> float | None:
        """What scores are relative to: the eager reference on the basis that is used, else the slowest of the root."""
        times = self._timed[1]
        for i in self.passed:
            judged = self.verdict(i)
            if judged is not None and judged.baselines.get("eager"):
                return judged.baselines["eager"]
        return max((times[i.id] for i in self.implementations(self.root.id) if i.id in times), default=None)

    @cached_property
    def scores(self) -> dict[int, float]:
        """The score of every node with a program that passed: ``squash`` of its best one's log-speedup over the
        baseline. As fast as the baseline is 0.5, twice as fast 0.67, four times 0.8, half as fast 0.33."""
        baseline = self.baseline_ms
        return {} if baseline is None else {n: 1.0 / (1.0 + ms / baseline) for n, (ms, _) in self._best.items()}

    @cached_property
    def _copies(self) -> dict[int, list[ImplementationView]]:
        found: dict[int, list[ImplementationView]] = {}
        for i in self.view.implementations.values():
            if i.duplicate_of is not None:
                found.setdefault(i.duplicate_of, []).append(i)
        return found

    def copied(self, implementation: ImplementationView) -> bool:
        """Whether another implementation has the same program."""
        return implementation.duplicate_of is not None or implementation.id in self._copies

    def original(self, implementation: ImplementationView) -> ImplementationView:
        """The earliest with the same program, by round and address: not the one that arrived first."""
        first = implementation
        while first.duplicate_of is not None:
            first = self.view.implementations[first.duplicate_of]
        copies = self._copies.get(first.id)
        return min([first, *copies], key=self.place) if copies else first

    def standing(self, implementation: ImplementationView) -> ImplementationView:
        """One of the same program that carries its evaluations."""
        while implementation.evaluation is None and implementation.duplicate_of is not None:
            implementation = self.view.implementations[implementation.duplicate_of]
        return implementation

    # ------------------------------------------------------------------------------------------------ branches

    @cached_property
    def _building_on(self) -> dict[int | None, list[NodeView]]:
        found: dict[int | None, list[NodeView]] = {}
        for node in self.view.nodes.values():
            found.setdefault(node.base, []).append(node)
        return found

    def building_on(self, implementation: int | None) -> Sequence[NodeView]:
        """The nodes whose ideas build on this implementation; None: on the bare reference (the root is one)."""
        return self._building_on.get(implementation, ())

    def branch(self, node: int) -> list[int]:
        """The nodes of the branch that begins at *node*, itself first."""
        found = [node]
        for at in found:
            found += [child.id for child in self.children(at)]
        return found

    def branch_best(self, node: int) -> float | None:
        """Milliseconds of the fastest in the branch that begins at *node*."""
        return min((self._best[n][0] for n in self.branch(node) if n in self._best), default=None)

    # ------------------------------------------------------------------------------------------------- repairs

    def repairs_before(self, implementation: ImplementationView) -> int:
        """How many repairs lie between *implementation* and the first one of its chain."""
        count = 0
        while implementation.repair_of is not None:
            implementation = self.view.implementations[implementation.repair_of]
            count += 1
        return count

    @cached_property
    def _programs_repaired(self) -> set[str]:
        return {self.view.implementations[i].program for i in self.repaired if i in self.view.implementations}

    def failed(self, among: Iterable[ImplementationView]) -> list[ImplementationView]:
        """Those that failed in a way that a message can mend: fewest repairs behind them first, then in tree
        order."""
        judged = ((i, i.evaluation or verdict(self.view, i)) for i in among)
        found = [i for i, v in judged if v is not None and v.outcome in REPAIRABLE]
        return sorted(found, key=lambda i: (self.repairs_before(i), self.place(i)))

    def repairable(self, among: Iterable[ImplementationView], in_a_row: int) -> list[ImplementationView]:
        """Those that failed in a way that a message can mend, whose program no repair was asked for yet, with fewer
        than *in_a_row* repairs behind them, on open nodes; one a program, in the order given."""
        if in_a_row <= 0:
            return []
        seen = set(self._programs_repaired)
        found: list[ImplementationView] = []
        for i in among:
            judged = i.evaluation or verdict(self.view, i)
            if judged is None or judged.outcome not in REPAIRABLE or i.program in seen or not self.open(i.node):
                continue
            if self.repairs_before(i) < in_a_row:
                seen.add(i.program)
                found.append(i)
        return found


def squash(nats: float) -> float:
    """A logistic of log-speedup: any figure to between 0 and 1."""
    return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, nats))))
