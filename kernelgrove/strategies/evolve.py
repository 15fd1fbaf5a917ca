"""Evolution: populations of programs, bred one idea at a time, the fitter parents more often.

An idea is a mutation (it builds on one parent) or a crossover (it draws on a second one too), in proportion to their
weights. With several islands, requests for ideas go round them; each breeds from its own fittest, but every
``migrate`` births the second parent comes from the next island. A parent's chance falls with each idea that was bred
from it. An idea too near to one that was tried on the same program (text similarity, by rapidfuzz) is dropped before
any code is written, and another is asked for.

An island's members are what its requests led to, and its share of the first translations: the tree says so, and
nothing else is kept.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ..errors import UsageError
from ..model import Action, Ideate, Implement, ImplementationView, JobKind, NodeState, NodeView, Prune, Stop, TreeView
from . import novelty, pruners, repairs
from .fold import Fold, fold
from .options import Option, number_above, number_from, share, whole

OPTIONS = (
    Option("ideas", 100, whole(1), "ideas in all", ("births",)),
    Option("islands", 1, whole(1), "populations that breed apart"),
    Option("population", 10, whole(1), "the fittest of an island that breed", ("top_k",)),
    Option("starts", 2, whole(1), "direct translations of the reference that an island starts from"),
    Option("mutation", 0.6, number_from(0.0), "weight of ideas for one parent"),
    Option("crossover", 0.4, number_from(0.0), "weight of ideas that draw on a second one"),
    Option("migrate", 4, whole(1), "births of an island between second parents from the next one"),
    Option("spread", 0.03, number_from(0.0), "nats of speed that an idea bred from a program takes off its fitness"),
    Option("temperature", 0.05, number_above(0.0), "nats of fitness that make a parent e times as likely"),
    Option("depth", 2, whole(1), "implementations an idea, while they beat its base"),
    Option("at_once", 2, whole(1), "ideas under way at once: more is sooner, fewer knows more"),
    Option("novelty", 0.8, share, "similarity from which an idea was tried already; 1: never"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)


def settle(values: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises UsageError for weights that sum to zero, and EnvironmentLacks where the novelty check needs rapidfuzz."""
    if values["mutation"] + values["crossover"] == 0:
        raise UsageError(
            "mutation=0 and crossover=0 of strategy 'evolve' leave it no way to breed.", "Give one a weight above 0."
        )
    if values["novelty"] < 1:
        novelty.available()
    return values


class Evolve:
    """Islands of programs with mutation, crossover, migration and a novelty check."""

    name = "evolve"

    def __init__(
        self,
        ideas: int = 100,
        islands: int = 1,
        population: int = 10,
        starts: int = 2,
        mutation: float = 0.6,
        crossover: float = 0.4,
        migrate: int = 4,
        spread: float = 0.03,
        temperature: float = 0.05,
        depth: int = 2,
        at_once: int = 2,
        novelty: float = 0.8,
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.ideas = ideas
        self.islands = islands
        self.population = population
        self.starts = starts
        self.crossover = crossover / (mutation + crossover)
        self.migrate = migrate
        self.spread = spread
        self.temperature = temperature
        self.depth = depth
        self.at_once = at_once
        self.novelty = novelty
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        first = [v for v in range(self.islands * self.starts) if v not in index.translated]
        if first:
            return [Implement(view.root, v) for v in first[:slots]]
        prunes = self._tried(index)
        gone = {a.node for a in prunes}
        work = repairs.begun(index, gone, self.repairs, self.depth)
        asks = index.jobs(JobKind.IDEATE)
        coming = sum(job.kind is JobKind.IDEATE for job in index.flying)
        born = index.begun + len(index.unasked) - len(gone)
        room = min(self.at_once - repairs.under_way(index, work), slots - len(work), self.ideas - born - coming)
        if room > 0:
            prunes += pruners.idle(index, work, {i.node for i in index.passed[:3]} | gone, self.limits)
            gone = {a.node for a in prunes}
            breeding = _Breeding(self, index, rng, gone)
            last = min(len(asks) + room, 2 * self.ideas)  # what is not new is asked again, but not without end
            bred = [breeding.idea(number) for number in range(len(asks), last)]
            work += [idea for idea in bred if idea is not None]
        if work or index.flying:
            return [*prunes, *work[:slots]]
        return [*prunes, Stop(f"{born} ideas were tried" if born else "nothing to breed from has passed")]

    def _tried(self, index: Fold) -> list[Prune]:
        """Prunes of ideas that say what another one on the same program, or one before it in its line, says."""
        if self.novelty >= 1:
            return []
        found: list[Prune] = []
        for node in index.unasked:
            others = [n.idea.text for n in index.building_on(node.base) if n.id < node.id and n.id != index.root.id]
            others += [n.idea.text for n in index.view.lineage(node.id)[1:-1]]
            like = novelty.near(node.idea.text, others, self.novelty)
            if like is not None:
                found.append(Prune(node.id, f"not new: {like[1]:.0%} like: {like[0]}"))
        return found


class _Breeding:
    """One decision's parents. Requests for ideas are numbered in the order in which they were planned; the number says
    whose turn it is."""

    def __init__(self, options: Evolve, index: Fold, rng: random.Random, gone: set[int]) -> None:
        self.options, self.index, self.rng, self.gone = options, index, rng, gone
        self.number = {job.id: n for n, job in enumerate(index.jobs(JobKind.IDEATE))}
        self.now: dict[int, int] = {}

    def island(self, node: NodeView, implementation: ImplementationView) -> int:
        if self.options.islands == 1:
            return 0
        if node.parent is None:  # its address is r/<variant>
            number = int(re.split("[/r]", implementation.address.partition("/")[2])[0])
        else:  # its address ends in .<request at the parent>-<idea of the request>
            request = int(node.address.rpartition(".")[2].partition("-")[0])
            number = self.number[self.index.asks(node.parent)[request].id]
        return number % self.options.islands

    @cached_property
    def members(self) -> list[list[ImplementationView]]:
        """Each island's fittest that can have more ideas, fittest first."""
        found: list[list[ImplementationView]] = [[] for _ in range(self.options.islands)]
        full = 0
        for i in self.index.passed:
            node = self.index.view.nodes[i.node]
            home = found[self.island(node, i)]
            if len(home) == self.options.population or node.id in self.gone:
                continue
            if node.state is NodeState.OPEN and not self.index.dry(node.id):
                home.append(i)
                full += len(home) == self.options.population
                if full == self.options.islands:
                    break
        return found

    def idea(self, number: int) -> Ideate | None:
        """Request *number*; None where no island has anything to breed from."""
        home = number % self.options.islands
        own = self.members[home] or next(filter(None, self.members), [])
        if not own:
            return None
        parent = self.pick(own)
        self.now[parent.id] = self.now.get(parent.id, 0) + 1
        others: tuple[int, ...] = ()
        turn = number // self.options.islands
        if self.rng.random() < self.options.crossover:
            away = turn % self.options.migrate == self.options.migrate - 1
            pool = [i for i in (self.members[(home + 1) % self.options.islands] if away else own) if i.id != parent.id]
            others = (self.pick(pool).id,) if pool else ()
        return Ideate(parent.node, parent.id, 1, turn + 1, others)

    def pick(self, among: Sequence[ImplementationView]) -> ImplementationView:
        """The fitter the more often, less what was bred from it already."""
        bred = [self.index.asked_of(i.id) + self.now.get(i.id, 0) for i in among]
        worth = [self.index.worth(i, n, self.options.spread) for i, n in zip(among, bred, strict=True)]
        best = max(worth)
        return self.rng.choices(among, [math.exp((w - best) / self.options.temperature) for w in worth])[0]
