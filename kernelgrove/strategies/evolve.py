"""Evolution: a population of programs on islands, bred one idea at a time, the fitter parents more often.

Requests for ideas go round the islands; each breeds from its own fittest: by mutation (an idea for one parent) or by
crossover (an idea that draws on a second parent too). Every ``migrate`` births of an island, the second parent comes
from the next island instead. An idea that is too near to one that was tried on the same program (text similarity, by
rapidfuzz) is dropped before any code is written, and another is asked for.

An island's members are what its requests led to, and its share of the first translations: the tree says so, and
nothing else is kept.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ..model import Action, Ideate, Implement, ImplementationView, JobKind, NodeView, Prune, Stop, TreeView
from . import pruners, repairs
from .fold import Fold, fold
from .novelty import near
from .options import Option, number_above, share, whole

OPTIONS = (
    Option("ideas", 100, whole(1), "ideas in all", ("births",)),
    Option("islands", 2, whole(1), "populations that breed apart"),
    Option("population", 10, whole(1), "the fittest of an island that breed", ("top_k",)),
    Option("starts", 2, whole(1), "direct translations of the reference an island starts from"),
    Option("crossover", 0.4, share, "share of ideas that draw on a second parent"),
    Option("migrate", 8, whole(1), "births of an island between second parents from the next one"),
    Option(
        "pressure", 0.5, number_above(0.0), "how much more often fitter parents breed: rank to this power, inverted"
    ),
    Option("novelty", 0.8, share, "similarity from which an idea was tried already; 1: never"),
    *repairs.OPTIONS,
    *pruners.OPTIONS,
)


class Evolve:
    """Islands of programs with mutation, crossover, migration and a novelty check."""

    name = "evolve"

    def __init__(
        self,
        ideas: int = 100,
        islands: int = 2,
        population: int = 10,
        starts: int = 2,
        crossover: float = 0.4,
        migrate: int = 8,
        pressure: float = 0.5,
        novelty: float = 0.8,
        repairs: int = 3,
        **limits: Any,
    ) -> None:
        self.ideas = ideas
        self.islands = islands
        self.population = population
        self.starts = starts
        self.crossover = crossover
        self.migrate = migrate
        self.pressure = pressure
        self.novelty = novelty
        self.repairs = repairs
        self.limits = pruners.Limits(**limits)

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        index = fold(view)
        first = [v for v in range(self.islands * self.starts) if v not in index.asked(view.root)]
        if first:
            return [Implement(view.root, v) for v in first[:slots]]
        done = pruners.at_floor(index, self.limits)
        new = [n for n in view.nodes.values() if n.id != view.root and index.open(n.id) and not index.asked(n.id)]
        prunes: list[Action] = [*self._tried(index, new)]
        prunes += pruners.prune(index, view.nodes.values(), {i.node for i in index.passed[:3]}, self.limits)
        gone = {a.node for a in prunes if isinstance(a, Prune)}
        work: list[Action] = [Implement(n.id) for n in new if n.id not in gone]
        alive = [i for i in view.implementations.values() if i.node not in gone]
        work += repairs.worth_it(index, alive, self.repairs)
        born = sum(n.state.value == "open" or bool(index.asked(n.id)) for n in view.nodes.values()) - 1 - len(gone)
        asks = len(index.jobs(JobKind.IDEATE))
        breeding = _Breeding(self, index, rng, gone)
        while not done and len(work) < slots and asks < 2 * self.ideas and born + breeding.coming < self.ideas:
            idea = breeding.idea(asks)
            if idea is None:
                break
            asks += 1
            work.append(idea)
        if work or index.flying:
            return [*prunes, *work[:slots]]
        return [*prunes, Stop(done or (f"{born} ideas were tried" if born else "nothing to breed from has passed"))]

    def _tried(self, index: Fold, new: Sequence[NodeView]) -> list[Prune]:
        """Prunes of ideas that say what another one on the same program, or one before it in its line, says."""
        if self.novelty >= 1:
            return []
        found: list[Prune] = []
        for node in new:
            others = [n.idea.text for n in index.building_on(node.base) if n.id < node.id and n.id != index.root.id]
            others += [n.idea.text for n in index.view.lineage(node.id)[1:-1]]
            like = near(node.idea.text, others, self.novelty)
            if like is not None:
                found.append(Prune(node.id, f"not new: {like[1]:.0%} like: {like[0]}"))
        return found


class _Breeding:
    """One decision's parents. Requests for ideas are numbered in the order in which they were planned; the number says
    whose turn it is."""

    def __init__(self, options: Evolve, index: Fold, rng: random.Random, gone: set[int]) -> None:
        self.options, self.index, self.rng, self.gone = options, index, rng, gone
        self.number = {job.id: n for n, job in enumerate(index.jobs(JobKind.IDEATE))}
        self.coming = sum(job.in_flight for job in index.jobs(JobKind.IDEATE))

    def island(self, node: NodeView, implementation: ImplementationView) -> int:
        if node.parent is None:
            return int(re.split(r"[/r]", implementation.address.partition("/")[2])[0]) % self.options.islands
        ask = int(node.address.rpartition(".")[2].partition("-")[0])
        return self.number[self.index.asks(node.parent)[ask].id] % self.options.islands

    @cached_property
    def members(self) -> list[list[ImplementationView]]:
        """Each island's fittest, fittest first."""
        found: list[list[ImplementationView]] = [[] for _ in range(self.options.islands)]
        for i in self.index.passed:
            node = self.index.view.nodes[i.node]
            home = found[self.island(node, i)]
            if len(home) < self.options.population and self.index.open(node.id) and node.id not in self.gone:
                home.append(i)
        return found

    def idea(self, number: int) -> Ideate | None:
        """Request *number*; None where no island has anything to breed from."""
        home = number % self.options.islands
        own = self.members[home] or next(filter(None, self.members), [])
        own = [i for i in own if not self.index.dry(i.node)]
        if not own:
            return None
        parent = self.pick(own)
        others: tuple[int, ...] = ()
        if self.rng.random() < self.options.crossover:
            away = (number // self.options.islands) % self.options.migrate == self.options.migrate - 1
            pool = self.members[(home + 1) % self.options.islands] if away else own
            pool = [i for i in pool if i.id != parent.id]
            others = (self.pick(pool).id,) if pool else ()
        self.coming += 1
        return Ideate(parent.node, parent.id, 1, number // self.options.islands + 1, others)

    def pick(self, ranked: Sequence[ImplementationView]) -> ImplementationView:
        odds = [(rank + 1) ** -self.options.pressure for rank in range(len(ranked))]
        return self.rng.choices(ranked, odds)[0]
