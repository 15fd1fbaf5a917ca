"""Replay answers that were stored before: from a grove, or from a JSONL file of one object a line.

``recorded:PATH`` (``recorded:PATH#s3`` for one search of a grove) finds an answer by the problem's digest and the
request's key. A line of JSONL is ``{"problem": digest, "key": …}`` with ``"ideas"`` (sentences, or objects with
``text``, ``rationale``, ``category``), ``"code"`` or ``"ratings"``; of two lines for one key the later one holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelgrove.errors import ProposerError, UsageError
from kernelgrove.model import Idea, Usage
from kernelgrove.ports import Proposal, ProposalRequest

if TYPE_CHECKING:
    from kernelgrove.storage.store import SqliteStore

_Key = tuple[str, str]


class RecordedProposer:
    """Answers from *where*: a path that ends in ``.jsonl``, or else a grove. Thread-safe.

    Raises UsageError for a JSONL file that cannot be read, StoreError for a grove that cannot be used, and
    ProposerError (``retry`` False) for a request that has no recorded answer. Costs are told as they were recorded.
    """

    def __init__(self, where: str) -> None:
        self.name = f"recorded:{where}"
        self._where, _, search = where.partition("#")
        self._answers: Mapping[_Key, Proposal] | None = None
        self._store: SqliteStore | None = None
        self._search: int | None = None
        if self._where.endswith(".jsonl"):
            if search:
                raise UsageError(f"--model {self.name} names a search, but a JSONL file has none.", "Leave #… out.")
            self._answers = read_jsonl(Path(self._where))
            return
        if search:
            if not (search.startswith("s") and search[1:].isdigit()):
                raise UsageError(f"--model {self.name} names no search after #.", "Write it as s3.")
            self._search = int(search[1:])
        from kernelgrove.storage.store import open_store

        self._store = open_store(self._where)

    def propose(self, request: ProposalRequest) -> Proposal:
        found = self._find(request.problem.digest, request.key)
        if found is None:
            raise ProposerError(
                f"{self._where} has no recorded answer for {request.key} on problem {request.problem.name}.",
                "Replay it with the options it was recorded with.",
                retry=False,
            )
        return found

    def _find(self, problem: str, key: str) -> Proposal | None:
        if self._answers is not None:
            return self._answers.get((problem, key))
        from kernelgrove.storage.recorded import completion_for

        assert self._store is not None
        return completion_for(self._store, problem, key, search=self._search)


def read_jsonl(path: Path) -> dict[_Key, Proposal]:
    """The answers in a JSONL file. Raises UsageError naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"The recorded file {path} cannot be read: {reason}.", "Check the path.") from error
    answers: dict[_Key, Proposal] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            answers[str(entry["problem"]), str(entry["key"])] = _proposal(entry)
        except (ValueError, KeyError, TypeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"{path}, line {number}, is no recorded answer: {what}.",
                'A line is {"problem": …, "key": …, "ideas" or "code": …}.',
            ) from error
    return answers


def _proposal(entry: Mapping[str, Any]) -> Proposal:
    if not any(key in entry for key in ("ideas", "code", "ratings")):
        raise ValueError("it has neither ideas, code nor ratings")
    code = entry.get("code")
    if code is not None and not isinstance(code, str):
        raise ValueError("its code is not text")
    ideas = tuple(Idea(idea) if isinstance(idea, str) else Idea(**idea) for idea in entry.get("ideas", ()))
    ratings = tuple(float(rating) for rating in entry.get("ratings", ()))
    usage = Usage(**entry["usage"]) if "usage" in entry else Usage()
    return Proposal(ideas=ideas, code=code, ratings=ratings, usage=usage, note=str(entry.get("note", "")))
