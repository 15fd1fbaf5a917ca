"""The process that ``torture`` kills: it runs one search and tells its parent every fact the store has acknowledged.

A fact is told after the store's call returned, and a proposer call when it begins, so that whatever was told must be
found in the file afterwards, however the process ended.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from fake_search import FakeEvaluator, FakeProposer, dice

from kernelgrove import strategies
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.controller import Controller
from kernelgrove.model import Usage
from kernelgrove.ports import EvaluatedResult, Proposal, ProposalRequest
from kernelgrove.storage import open_store

#: What each call of the proposer costs, and what is reserved for it.
COST, RESERVE = 0.01, 0.02

#: Options of ``branch``: some two dozen ideas and four dozen programs.
TREE = {"rounds": 6, "widths": 4, "depths": 2, "together": True}


class Proposer(FakeProposer):
    """Says that it was asked before it answers; a reservation stands for each call."""

    def __init__(self, say: Any) -> None:
        super().__init__(usage=Usage(10, 20, COST), delay=lambda request: 0.03 * dice("ask", request.key))
        self._say = say

    def reserve(self, request: ProposalRequest) -> Usage:
        return Usage(20, 40, RESERVE)

    def propose(self, request: ProposalRequest) -> Proposal:
        self._say("called", request.key)
        return super().propose(request)


def run(db: str, search: int, started: Any, told: int, tree: dict[str, int]) -> None:
    """Run *search* to its end; facts go to the pipe *told* (its descriptor), a line each, in one write each."""

    def say(*words: object) -> None:
        os.write(told, (" ".join(map(str, words)) + "\n").encode())  # atomic: far below PIPE_BUF

    with open_store(db) as store:
        record, finish, sent, settle = store.record, store.finish, store.mark_sent, store.settle_completion

        def tell_record(number: int, step: int, *rest: Any, **more: Any) -> tuple[int, ...]:
            ids = record(number, step, *rest, **more)
            say("step", number, step)
            for job in ids:
                say("job", job)
            return ids

        def tell_finish(job: Any, result: Any) -> bool:
            taken = finish(job, result)
            if taken:
                say("judged" if isinstance(result, EvaluatedResult) else "done", job.id)
            return taken

        def tell_sent(completion: int) -> None:
            sent(completion)
            say("sent", completion)

        def tell_settled(completion: int, ok: bool, *rest: Any, **more: Any) -> None:
            settle(completion, ok, *rest, **more)
            say("settled", completion)

        store.record, store.finish = tell_record, tell_finish  # type: ignore[method-assign]
        store.mark_sent, store.settle_completion = tell_sent, tell_settled  # type: ignore[method-assign]
        evaluator = FakeEvaluator(delay=lambda request: 0.05 * dice("judge", request.code))
        controller = Controller(store, search, strategies.make("branch", tree), [Proposer(say)], evaluator, Budget())
        started.set()
        controller.run()
        say("finished", search)
