"""Who takes part: ours with room for the whole budget and defaults otherwise, the baselines, and the peers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

from kernelgrove import strategies
from kernelgrove.ports import Strategy

from .baselines import Greedy, SeedPolicy
from .landscape import Landscape
from .peers import PEERS, pursue
from .simulator import Limits, Trace, simulate

#: More than any budget here allows.
_ENOUGH = 100_000

#: name -> what makes a fresh strategy
OURS: Mapping[str, Callable[[], Strategy]] = {
    "zero_shot": lambda: strategies.make("zero_shot", {"samples": _ENOUGH}),
    "refine": lambda: strategies.make("refine", {"turns": _ENOUGH}),
    "branch": lambda: strategies.make("branch", {"rounds": _ENOUGH}),
    "tree_of_thought": lambda: strategies.make("tree_of_thought", {"rounds": _ENOUGH}),
    "mcts (uct)": lambda: strategies.make("mcts", {"ideas": _ENOUGH, "policy": "uct"}),
    "mcts (thompson)": lambda: strategies.make("mcts", {"ideas": _ENOUGH, "policy": "thompson"}),
    "evolve": lambda: strategies.make("evolve", {"ideas": _ENOUGH}),
}
#: Best-of-n is zero_shot with as many samples as the budget has evaluations.
BASELINES: Mapping[str, Callable[[], Strategy]] = {"greedy": Greedy, "seed's policy": SeedPolicy}


@dataclass(frozen=True)
class Contender:
    """A name and what runs one search of it."""

    name: str
    run: Callable[[Landscape, int, Limits], Trace]


def contender(name: str) -> Contender:
    """``module:Class`` is a strategy of one's own. Raises KeyError for a name that is none, ImportError for a peer that
    is not installed."""
    if name in PEERS:
        make = importlib.import_module(PEERS[name][1]).make
        return Contender(name, lambda land, seed, limits: pursue(make, land, seed, limits))
    if ":" in name:
        return Contender(name, lambda land, seed, limits: simulate(strategies.make(name), land, seed, limits))
    made = {**OURS, **BASELINES}[name]
    return Contender(name, lambda land, seed, limits: simulate(made(), land, seed, limits))


def names() -> list[str]:
    return [*OURS, *BASELINES, *PEERS]


def missing_peers() -> dict[str, str]:
    """Peers that cannot be asked here, and why."""
    found = {}
    for name, (distribution, _) in PEERS.items():
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = f"{distribution} is not installed: see benchmarks/strategies/requirements.txt"
    return found


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    return {name: metadata.version(dist) for name, (dist, _) in PEERS.items() if name not in missing_peers()}
