"""``kernelgrove replay``: stored programs judged again here, old figures beside new ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..model import Precision
from . import options, pages, replay_page

if TYPE_CHECKING:
    from ..engine.replay import Chosen
    from ..storage import SqliteStore


def replay(
    search: Annotated[
        str | None,
        typer.Argument(
            metavar="S|QUERY",
            help="A search: s1 or its name; the latest when left out. Or a query: its implementations.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", min=1, help="How many of a search's best.  [default: 5; of a query: all it finds]"
        ),
    ] = None,
    lineage: Annotated[bool, typer.Option("--lineage", help="And the programs that each was made from.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Judge those too that an earlier replay judged here by the same rules.")
    ] = False,
    device: options.Device = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="GPU", help="On cpu, for which GPU.  [default: the search's]")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", metavar="default|strict|tf32|any", help="In place of the search's own."),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", metavar="X", help="In place of the search's own rule.")
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Correctness checks.  [default: the search's]")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Timed calls.  [default: the search's]")] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="For each stage.  [default: the search's]")
    ] = None,
    parallel: Annotated[int | None, typer.Option("--parallel", help="Candidates judged at once.")] = None,
    allow_unsafe: options.AllowUnsafe = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Judge stored programs again on this device, and compare.

    Adds evaluations and rewrites none: the tree and the best of the search stay as they were. What was judged before
    a crash or Ctrl-C (exit code 130) is kept, and the next replay goes on from there. Exit code 1 when nothing in the
    search has passed, or when a program that passed before does not pass now.
    """
    from ..config import SearchConfig
    from ..engine import replay as engine
    from ..storage import open_store
    from ..storage.documents import find_search

    flags = {"trials": trials, "samples": samples, "timeout": timeout, "parallel": parallel, "tolerance": tolerance}
    given = SearchConfig.load({k: v for k, v in flags.items() if v is not None}, alone=True)  # checks them
    rules = {
        "precision": precision and precision.value,
        "tolerance": tolerance,
        "trials": trials,
        "samples": samples,
        "timeout_s": None if timeout is None else given.timeout,
    }
    place = _Place(device or "auto", target, parallel, allow_unsafe)
    with options.output(json) as out, open_store(db) as store:
        if search is not None and _is_query(search):
            chosen = engine.choose_among(store, _found(store, search), top, lineage=lineage)
            documents = _judge(store, chosen, place, rules, again, out)
            if json:
                out.emit({"query": search, "searches": documents})
            if not chosen:
                print("The query finds no implementation, so there is nothing to replay.", file=sys.stderr)
        else:
            number = find_search(store, search)
            engine.must_have_reference(store.search(number).spec)
            best = engine.choose(store, number, top or 5, lineage=lineage)
            documents = _judge(store, {number: best}, place, rules, again, out)
            if json:
                out.emit(documents[0])
            if not best:
                print(f"s{number}: no implementation has passed, so there is nothing to replay.", file=sys.stderr)
        if not json:
            for document in documents:
                replay_page.put(document, named=len(documents) > 1)
    rows = [row for document in documents for row in document["implementations"]]
    left = sum(document["left"] for document in documents)
    if left:
        print(f"interrupted: {left} not judged; replay again to go on", file=sys.stderr)
        raise typer.Exit(130)
    if not rows or any(replay_page.passed(row["old"]) and not replay_page.passed(row["new"]) for row in rows):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Place:
    """Where to judge, as it was asked for."""

    device: str
    target: str | None
    parallel: int | None
    allow_unsafe: bool


def _is_query(text: str) -> bool:
    """Whether *text* says more than which search: an id or a name is one word."""
    return bool(re.search(r"[=<>~|()]|\s(in|under|above|not)\s|^(best|repeated|under|above)\b", text.strip()))


def _found(store: SqliteStore, text: str) -> list[int]:
    """The implementations that a query finds. Raises UsageError for one that asks for something else."""
    from ..errors import UsageError
    from ..storage.ids import parse_as
    from ..storage.query import Wanted, ask
    from .query import facts

    answer = ask(store, text, Wanted("implementations"), facts())
    if "implementation" not in answer.columns:
        raise UsageError(
            "The query gives no implementations, and a replay judges those.", "Leave out count, stats, cost."
        )
    at = answer.columns.index("implementation")
    return [parse_as("i", row[at]) for row in answer.rows]


def _judge(
    store: SqliteStore,
    chosen: Mapping[int, Sequence[Chosen]],
    place: _Place,
    rules: Mapping[str, Any],
    again: bool,
    out: options.Output,
) -> list[dict[str, Any]]:
    """The document of each search, its programs judged; once interrupted, nothing more is judged."""
    from ..engine import replay as engine
    from ..engine.interrupt import guard
    from ..render import number_of
    from .cases import open_pool
    from .places import target_for

    documents: list[dict[str, Any]] = []
    stopped = False
    specs = {number: store.search(number).spec for number in chosen}
    for spec in specs.values():  # before anything is judged
        engine.must_have_reference(spec)
    for number, programs in chosen.items():
        if stopped or not programs:
            documents.append(engine.document(store, number, [], len(programs)))
            continue
        spec = specs[number]
        target = target_for(spec, place.device, place.target)
        with closing(open_pool(place.device, target, parallel=place.parallel, allow_unsafe=place.allow_unsafe)) as pool:
            request = engine.request_for(spec, pool, rules)
            here = pool.device()
            print(
                f"replaying {number_of(len(programs), 'program')} of s{number} ({spec.problem.name})"
                f" on {here.name} for {here.gpu} ({here.basis})",
                file=out.progress,
                flush=True,
            )
            run = engine.Replay(store, pool, request, again=again, events=_Progress(store, len(programs), out))
            with guard(run):
                done = run.run(programs)
        documents.append(engine.document(store, number, done, len(programs) - len(done)))
        stopped = len(done) < len(programs)
    return documents


class _Progress:
    """A line for each program as its result is kept."""

    def __init__(self, store: Any, total: int, out: options.Output) -> None:
        self._store, self._total, self._out, self._done = store, total, out, 0

    def __call__(self, done: Any) -> None:
        from ..storage.documents import show_document

        self._done += 1
        found = show_document(self._store, f"e{done.after}")
        text = f"{self._done}/{self._total} i{done.chosen.implementation} {found['outcome']}"
        if found["outcome"] == "ok":
            text += f": {pages.figure(found)}"
        elif found["message"]:
            text += f": {found['message'].splitlines()[0]}"
        print(text + (f" (judged by an earlier replay: e{done.after})" if done.kept else ""), file=self._out.progress)
        self._out.progress.flush()
