"""Stored programs judged again, on this device and under today's rules; old figures beside new ones.

Evaluations are added and none is rewritten: the search's tree and its best stay what they were. Each result is in
the store before it is shown, so that a replay that was interrupted loses only what was being judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ProblemError
from ..model import REQUEST_OPTIONS, Basis, Device, EvaluationRequest, EvaluationResult, Outcome, TreeView
from ..ports import EvaluatedResult, Evaluator, SearchSpec
from ..storage import SqliteStore, documents
from ..storage.ids import parse_as, show
from ..storage.importers.placeholder import attached


@dataclass(frozen=True)
class Chosen:
    """A program (by its hash) to judge again, under the first implementation that has it. *why* it was chosen is
    ``best``, ``asked`` (by a query) or ``ancestor``; *before* is that implementation's own evaluation."""

    implementation: int
    node: int
    program: str
    idea: str
    why: str
    before: int | None


@dataclass(frozen=True)
class Replayed:
    """*after* is the new evaluation, or with *kept* the one that an earlier replay left."""

    chosen: Chosen
    after: int
    kept: bool = False


Listener = Callable[[Replayed], None]


# ------------------------------------------------------------------------------------------------- choosing


def choose(store: SqliteStore, search: int, top: int, *, lineage: bool = False) -> list[Chosen]:
    """The *top* fastest programs of *search*, fastest first; with *lineage*, each followed by what it was made from:
    the program it repairs or builds on, and so on up to one that was written from the reference. Each program once.

    Raises NotFound for an unknown search; empty where nothing has passed.
    """
    best = [parse_as("i", leader["implementation"]) for leader in documents.leaders(store, search, top)]
    return _with_ancestors(store.tree(search), best, "best", lineage)


def choose_among(
    store: SqliteStore, implementations: Sequence[int], top: int | None, *, lineage: bool = False
) -> dict[int, list[Chosen]]:
    """search -> of these *implementations* those of the search: what passed first, fastest first, then what did not, in
    the order given; the first *top* where that is given; with *lineage* as ``choose``."""
    by_search: dict[int, list[int]] = {}
    for number in implementations:
        search = parse_as("s", documents.show_document(store, show("i", number))["search"])
        by_search.setdefault(search, []).append(number)
    found: dict[int, list[Chosen]] = {}
    for search, numbers in sorted(by_search.items()):
        view, own = store.tree(search), store.search(search).spec.device.basis

        def place(number: int, view: TreeView = view, own: Basis = own) -> tuple[object, ...]:
            judged = view.implementations[number].evaluation
            if judged is None or judged.outcome is not Outcome.OK or judged.time_ms is None:
                return (True, False, 0.0)
            return (False, judged.basis is not own, judged.time_ms)

        first = dict.fromkeys(view.implementations[number].duplicate_of or number for number in numbers)
        found[search] = _with_ancestors(view, sorted(first, key=place)[:top], "asked", lineage)
    return found


def _with_ancestors(view: TreeView, numbers: Sequence[int], why: str, lineage: bool) -> list[Chosen]:
    found = {number: _chosen(view, number, why) for number in numbers}
    for number in numbers if lineage else ():
        for ancestor in _ancestors(view, number):
            found.setdefault(ancestor, _chosen(view, ancestor, "ancestor"))
    return list(found.values())


def _ancestors(view: TreeView, number: int) -> Iterator[int]:
    """What implementation *number* was made from, nearest first; the first that has the program stands for it."""
    seen = {number}
    at: int | None = number
    while at is not None:
        made = view.implementations[at]
        at = made.repair_of if made.repair_of is not None else view.nodes[made.node].base
        if at is not None:
            at = view.implementations[at].duplicate_of or at
            if at in seen:  # a later idea may be answered with an earlier program
                return
            seen.add(at)
            yield at


def _chosen(view: TreeView, number: int, why: str) -> Chosen:
    made = view.implementations[number]
    before = None if made.evaluation is None else made.evaluation.id
    return Chosen(number, made.node, made.program, view.nodes[made.node].idea.text, why, before)


# ------------------------------------------------------------------------------------------------- judging


def request_for(spec: SearchSpec, evaluator: Evaluator, changed: Mapping[str, Any]) -> EvaluationRequest:
    """How programs of a search are judged today: at its size as this device takes it, by its rules unless *changed*
    (fields of EvaluationRequest; None: as it was). The code is left to be filled in.

    Raises ProblemError where the reference is missing or at fault.
    """
    must_have_reference(spec)
    size = spec.instance.size if spec.instance.size in spec.problem.sizes else None
    options = {name: spec.options[name] for name in REQUEST_OPTIONS if name in spec.options}
    request = EvaluationRequest(
        evaluator.prepare(spec.problem, size), "", precision=spec.precision, tolerance=spec.tolerance, **options
    )
    return replace(request, **{name: value for name, value in changed.items() if value is not None})


def must_have_reference(spec: SearchSpec) -> None:
    """Raises ProblemError for a search, imported, whose file did not bring its problem's reference."""
    if not spec.problem.source.strip() or not attached(spec.problem.source):
        raise ProblemError(
            f"The reference of {spec.problem.name} is not in this grove, so nothing can be judged against it:",
            "import the file again with --problem FILE.",
        )


class Replay:
    """One run over *chosen*. ``stop_softly`` and ``stop_now`` are for signal handlers in the main thread."""

    def __init__(
        self,
        store: SqliteStore,
        evaluator: Evaluator,
        request: EvaluationRequest,
        *,
        again: bool = False,
        events: Listener = lambda done: None,
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._request = request
        self._protocol = int(getattr(evaluator, "protocol", 1))
        self._again = again
        self._events = events
        self._soft = False

    def stop_softly(self) -> None:
        """Start nothing new, keep what is being judged."""
        self._soft = True

    def stop_now(self) -> None:
        """Leave what is being judged; raises KeyboardInterrupt out of ``run``."""
        raise KeyboardInterrupt

    def run(self, chosen: Sequence[Chosen]) -> list[Replayed]:
        """Judge each, ``evaluator.parallel`` at once, and keep each result as it comes; in the order of *chosen*,
        without those that a soft stop left out. Raises EvaluatorError and StoreError; what was kept stays."""
        done: dict[int, Replayed] = {}
        device = self._evaluator.device()
        waiting: list[Chosen] = []
        for one in chosen:
            known = None if self._again else self._known(one, device)
            if known is None:
                waiting.append(one)
            else:
                done[one.implementation] = Replayed(one, known, kept=True)
                self._events(done[one.implementation])
        threads = ThreadPoolExecutor(max_workers=max(1, self._evaluator.parallel), thread_name_prefix="replay")
        running: dict[Future[EvaluationResult], Chosen] = {}
        try:
            while running or (waiting and not self._soft):
                while waiting and not self._soft and len(running) < max(1, self._evaluator.parallel):
                    one = waiting.pop(0)
                    code = self._store.code(one.program)
                    running[threads.submit(self._evaluator.evaluate, replace(self._request, code=code))] = one
                # A signal that another thread took is seen only when this one runs: it never waits for long.
                for future in wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    one = running.pop(future)
                    ended = EvaluatedResult(future.result(), device)
                    added = self._store.add_evaluation(one.implementation, self._request, self._protocol, ended)
                    done[one.implementation] = Replayed(one, added)
                    self._events(done[one.implementation])
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
        return [done[one.implementation] for one in chosen if one.implementation in done]

    def _known(self, one: Chosen, device: Device) -> int | None:
        return self._store.replayed_evaluation(one.implementation, self._request, self._protocol, device)


# ----------------------------------------------------------------------------------------------- comparing

_KEPT = (
    "evaluation outcome stage message basis time_ms baselines speedup max_error trials device device_key target"
    " size precision tolerance protocol software created"
).split()
#: What may differ between two evaluations of one program, and what people call it.
_RULES = {
    "device": "device_key",
    "target": "target",
    "basis": "basis",
    "size": "size",
    "precision": "precision",
    "tolerance": "tolerance",
    "protocol": "protocol",
}


def document(store: SqliteStore, search: int, done: Sequence[Replayed], left: int) -> dict[str, Any]:
    """What ``replay`` prints: old and new evaluation of each, ranks among those that were replayed, and what changed.

    A rank is among figures of one basis: that of the first program's old evaluation, and that of this device. *left*
    is how many were not judged because the replay was interrupted. Raises NotFound.
    """
    rows: list[dict[str, Any]] = []
    for one in done:
        before = None if one.chosen.before is None else _evaluation(store, one.chosen.before)
        after = _evaluation(store, one.after)
        rows.append(
            {
                "implementation": show("i", one.chosen.implementation),
                "node": show("n", one.chosen.node),
                "idea": one.chosen.idea,
                "why": one.chosen.why,
                "old": before,
                "new": after,
                "kept": one.kept,
                "changed": [] if before is None else changes(before, after),
            }
        )
    for side in ("old", "new"):
        _rank([row[side] for row in rows if row[side] is not None])
    problem = store.search(search).spec.problem.name
    return {"search": show("s", search), "problem": problem, "implementations": rows, "left": left}


def _evaluation(store: SqliteStore, number: int) -> dict[str, Any]:
    found = documents.show_document(store, show("e", number))
    return {name: found[name] for name in _KEPT} | {"rank": None}


def _rank(evaluations: Sequence[dict[str, Any]]) -> None:
    """Fill in ``rank`` from 1, fastest first, among those that have a time in the basis of the first."""
    timed = [e for e in evaluations if e["time_ms"] is not None]
    if timed:
        alike = [e for e in timed if e["basis"] == timed[0]["basis"]]
        for rank, evaluation in enumerate(sorted(alike, key=lambda e: float(e["time_ms"])), 1):
            evaluation["rank"] = rank


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is not the same: ``{"what": "device" | … | "torch", "old": …, "new": …}``. Software that one side does not
    mention (an imported evaluation says nothing of it) is no change."""
    found = [
        {"what": what, "old": before[name], "new": after[name]}
        for what, name in _RULES.items()
        if before[name] != after[name]
    ]
    old, new = before["software"] or {}, after["software"] or {}
    return found + [
        {"what": name, "old": old[name], "new": new[name]}
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
