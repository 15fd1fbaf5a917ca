"""Decision time: one ``propose`` over a tree of 100, 1,000 and 10,000 ideas, index included, on a view never seen.

The tree is one that a long search leaves: every idea builds on one of the fastest before it, most have one program,
some were repaired, a tenth failed for good, eight jobs are in flight.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Mapping

from kernelgrove.model import (
    Basis,
    EvaluationView,
    Idea,
    ImplementationView,
    JobKind,
    JobState,
    JobView,
    NodeState,
    NodeView,
    Outcome,
    Stage,
    TreeView,
)

from .contenders import OURS

SIZES = (100, 1_000, 10_000)
_RUNS = 15


def grown(ideas: int, seed: int = 1) -> TreeView:
    """A tree of so many ideas."""
    rng = random.Random(seed)
    nodes = {1: NodeView(1, None, None, "r", 0, Idea("reference"), NodeState.OPEN, None, "")}
    implementations: dict[int, ImplementationView] = {}
    jobs: list[JobView] = []
    asks: dict[int, int] = {}
    fast: list[tuple[float, ImplementationView]] = []

    def job(kind: JobKind, node: int | None, implementation: int | None, **payload: object) -> None:
        jobs.append(JobView(len(jobs) + 1, kind, JobState.DONE, node, implementation, f"{kind}:{len(jobs)}", payload))

    def written(node: int, address: str, ms: float, repair_of: int | None = None, fails: bool = False) -> int:
        id_ = len(implementations) + 1
        outcome = Outcome.COMPILE_ERROR if fails else Outcome.OK
        time_ms, interval = (None, None) if fails else (ms, (ms * 0.99, ms * 1.01))
        found = EvaluationView(
            id_, outcome, Stage.TIME, "", Basis.MEASURED, time_ms, {"eager": 1.0}, {}, interval, "sealed"
        )
        view = ImplementationView(id_, node, address, repair_of, f"{id_:064x}", None, "", found)
        implementations[id_] = view
        if not fails:
            fast.append((ms, view))
            fast.sort(key=lambda pair: pair[0])
            del fast[12:]
        return id_

    for variant in range(4):
        job(JobKind.IMPLEMENT, 1, None, variant=variant)
        written(1, f"r/{variant}", 1.0 + 0.01 * variant)
    for n in range(ideas):
        _, base = rng.choice(fast)
        parent = nodes[base.node]
        asked = asks.get(parent.id, 0)
        asks[parent.id] = asked + 1
        job(JobKind.IDEATE, parent.id, base.id, parent=parent.id, base=base.id, count=1, round=n // 4 + 1)
        id_ = len(nodes) + 1
        # Paths of a real search are about so deep; a chain of thousands would measure the length of addresses.
        address = f"r.{parent.id}-0.{asked}-0"
        text = f"idea {id_}: tile by {rng.randrange(9)} and stage {rng.randrange(9)}"
        nodes[id_] = NodeView(id_, parent.id, base.id, address, n // 4 + 1, Idea(text), NodeState.OPEN, None, "")
        job(JobKind.IMPLEMENT, id_, None, variant=0)
        ms = base.time_ms or 1.0
        fails = rng.random() < 0.4
        first = written(id_, f"{address}/0", ms * math.exp(rng.gauss(0.02, 0.05)), fails=fails)
        if fails:
            job(JobKind.REPAIR, id_, first)
            written(id_, f"{address}/0r0", ms * math.exp(rng.gauss(0.02, 0.05)), first, fails=rng.random() < 0.25)
    for at in range(8):
        jobs.append(JobView(len(jobs) + 1, JobKind.EVALUATE, JobState.LEASED, None, at + 1, f"evaluate:{at}", {}))
    return TreeView(1, seed, len(jobs), 1, nodes, implementations, tuple(jobs))


def measure() -> Mapping[str, Mapping[int, tuple[float, float]]]:
    """Milliseconds of CPU time a decision takes, by strategy and size: the median, and the least."""
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in OURS}
    for size in SIZES:
        view = grown(size)
        for name, make in OURS.items():
            strategy = make()
            times = []
            for run in range(_RUNS):
                fresh = TreeView(
                    view.search, view.seed, view.step, view.root, view.nodes, view.implementations, view.jobs
                )
                begun = time.process_time()
                strategy.propose(fresh, 4, random.Random(run))
                times.append(1000 * (time.process_time() - begun))
            found[name][size] = (statistics.median(times), min(times))
    return found


if __name__ == "__main__":
    for name, sizes in measure().items():
        print(name, {size: f"{median:.1f} ({least:.1f})" for size, (median, least) in sizes.items()})
