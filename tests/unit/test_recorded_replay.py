"""A whole search replayed from its own grove gives the same tree, whatever order its jobs finish in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_search import FakeEvaluator, FakeProposer, controller, spec

from kernelgrove import strategies
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.proposers.base import make
from kernelgrove.storage import open_store


def grown(path: Path, proposer: Any, parallel: int) -> list[tuple[Any, ...]]:
    """Run one search into a new grove and describe its tree by addresses, ideas, programs and outcomes."""
    with open_store(str(path), create=True) as store:
        search = store.create_search(spec(), ROOT_IDEA)
        strategy = strategies.make("branch", {"rounds": 3, "widths": "2,3", "depths": "2,2"})
        controller(store, proposer, FakeEvaluator(parallel=parallel), search=search, strategy=strategy).run()
        view = store.tree(search)
        nodes = [("node", n.address, n.idea, n.state, n.pruned_because) for n in view.nodes.values()]
        made = [
            ("implementation", i.address, i.program, i.evaluation.outcome if i.evaluation else None, i.time_ms)
            for i in view.implementations.values()
        ]
        return sorted(nodes + made, key=lambda row: row[:2])


def test_a_recorded_search_gives_the_same_tree(tmp_path: Path) -> None:
    first = grown(tmp_path / "first.db", FakeProposer(), parallel=4)
    again = grown(tmp_path / "again.db", make(f"recorded:{tmp_path / 'first.db'}"), parallel=1)
    assert len(first) > 10
    assert again == first
