"""What ``test_store_faults`` runs on a small file system of its own: a search until the disk is full; then, with room
again, to its end.

    unshare --mount sh -c 'mount -t tmpfs -o size=12m tmpfs DIR && python full_disk.py DIR BALLAST'

*BALLAST* bytes are taken before the search starts, so that the disk is full at another moment. Prints one JSON object:
what the store said, what it had acknowledged by then and no longer has, and how the search ended.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from fake_search import FakeEvaluator, FakeProposer, spec

from kernelgrove import strategies
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.controller import Controller
from kernelgrove.errors import StoreError
from kernelgrove.ports import Proposal, ProposalRequest
from kernelgrove.storage import SqliteStore, open_store
from kernelgrove.storage.care.verify import verify


class Wordy(FakeProposer):
    """Answers of some kilobytes, as programs are."""

    def propose(self, request: ProposalRequest) -> Proposal:
        answer = super().propose(request)
        code = (
            None if answer.code is None else f"{answer.code}\n" + "".join(f"# {request.key} {n}\n" for n in range(200))
        )
        return Proposal(answer.ideas, code, usage=answer.usage, request_text="why " * 1000, response_text=code or "")


def controller(store: SqliteStore, search: int) -> Controller:
    strategy = strategies.make("branch", {"rounds": 4, "widths": 3, "depths": 2, "together": True})
    return Controller(store, search, strategy, [Wordy()], FakeEvaluator(), Budget())


def acknowledging(store: SqliteStore, done: set[int]) -> None:
    """Keep the jobs that the store says have ended."""
    finish = store.finish

    def finished(job: Any, result: Any) -> bool:
        taken = finish(job, result)
        if taken:
            done.add(job.id)
        return taken

    store.finish = finished  # type: ignore[method-assign]


def main(folder: Path, ballast: int) -> dict[str, Any]:
    path, stone = folder / "grove.db", folder / "ballast"
    done: set[int] = set()
    told: list[str] = []
    with open_store(path, create=True) as store:
        search = store.create_search(spec(), ROOT_IDEA)
        stone.write_bytes(b"x" * ballast)
        acknowledging(store, done)
        try:
            controller(store, search).run()
        except StoreError as error:
            told.append(str(error))
    stone.unlink()
    with closing(sqlite3.connect(path)) as file:
        kept = {id_ for (id_,) in file.execute("SELECT id FROM job WHERE state IN ('done', 'failed')")}
    with open_store(path) as store:
        ended = controller(store, search).run()
        findings = [finding.says for finding in verify(store).findings]
        judged = len(list(store.tree(search).judged()))
    return {
        "told": told,
        "acknowledged": len(done),
        "lost": sorted(done - kept),
        "ended": str(ended),
        "judged": judged,
        "findings": findings,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
