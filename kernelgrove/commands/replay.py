"""``kernelgrove replay``: stored programs judged again here, old figures beside new ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..model import Precision
from . import options, pages

if TYPE_CHECKING:
    from ..ports import SearchSpec

_Document = Mapping[str, Any]


def replay(
    search: Annotated[
        str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="How many of its best programs.")] = 5,
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
    from ..engine.interrupt import guard
    from ..storage import open_store
    from ..storage.documents import find_search
    from .cases import open_pool

    flags = {"trials": trials, "samples": samples, "timeout": timeout, "parallel": parallel, "tolerance": tolerance}
    given = SearchConfig.load({k: v for k, v in flags.items() if v is not None}, alone=True)  # checks them
    rules = {
        "precision": precision and precision.value,
        "tolerance": tolerance,
        "trials": trials,
        "samples": samples,
        "timeout_s": None if timeout is None else given.timeout,
    }
    with options.output(json) as out, open_store(db) as store:
        number = find_search(store, search)
        spec = store.search(number).spec
        engine.must_have_reference(spec)
        chosen = engine.choose(store, number, top, lineage=lineage)
        if not chosen:
            if json:
                out.emit(engine.document(store, number, [], 0))
            print(f"s{number}: no implementation has passed, so there is nothing to replay.", file=sys.stderr)
            raise typer.Exit(1)
        place = device or "auto"
        pool = open_pool(place, _target(spec, place, target), parallel=parallel, allow_unsafe=allow_unsafe)
        with closing(pool):
            request = engine.request_for(spec, pool, rules)
            here = pool.device()
            print(
                f"replaying {len(chosen)} programs of s{number} ({spec.problem.name})"
                f" on {here.name} for {here.gpu} ({here.basis})",
                file=out.progress,
                flush=True,
            )
            told = _Progress(store, len(chosen), out)
            run = engine.Replay(store, pool, request, again=again, events=told)
            with guard(run):
                done = run.run(chosen)
        document = engine.document(store, number, done, len(chosen) - len(done))
        if json:
            out.emit(document)
        else:
            _print(document)
    if document["left"]:
        print(f"interrupted: {document['left']} not judged; replay again to go on", file=sys.stderr)
        raise typer.Exit(130)
    if any(_passed(row["old"]) and not _passed(row["new"]) for row in document["implementations"]):
        raise typer.Exit(1)


def _target(spec: SearchSpec, device: str, given: str | None) -> str | None:
    """For which GPU a cpu projects: the one *given*, else the search's where it is known, so that figures compare."""
    if given is not None:
        return given
    from ..engine.gpus import detect, specs
    from ..errors import UsageError

    if device != "cpu" and not (device == "auto" and not detect.detect().gpus):
        return None
    try:
        return specs.find(spec.device.gpu).name
    except UsageError:  # an imported file may name any device
        return None


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


# ------------------------------------------------------------------------------------------------- for people


def _passed(evaluation: _Document | None) -> bool:
    return evaluation is not None and evaluation["outcome"] == "ok"


def _print(document: _Document) -> None:
    from .. import render

    rows: Sequence[_Document] = document["implementations"]
    print()
    if not rows:
        return
    columns = _columns(rows)
    shown = [[cell(row) for _, cell in columns] for row in rows]
    names = [heading for heading, _ in columns]
    render.put(render.table(names, shown, right=[n for n in names if "time" in n or "over" in n or "÷" in n]))
    print()
    for line in _notes(rows):
        print(line)


def _of(rows: Sequence[_Document], side: str) -> set[str]:
    """For what, and in which basis, the figures of one *side* are."""
    return {_where(row[side]) for row in rows if row[side] is not None and row[side]["time_ms"] is not None}


def _where(evaluation: _Document) -> str:
    measured = evaluation["basis"] == "measured"
    return f"{evaluation['basis']} {'on' if measured else 'for'} {evaluation['device_key' if measured else 'target']}"


def _columns(rows: Sequence[_Document]) -> list[tuple[str, Any]]:
    """Headings, and what each shows of a row. Old and new stand in columns of their own, each with its basis; times
    are divided only where both are of one basis."""
    from .. import render

    def times_of(side: str) -> Any:
        return lambda row: None if row[side] is None else _time(row[side], len(_of(rows, side)) > 1)

    def over(side: str, name: str) -> Any:
        def cell(row: _Document) -> str | None:
            value = None if row[side] is None else (row[side]["speedup"] or {}).get(name)
            return None if value is None else render.times(value)

        return cell

    columns: list[tuple[str, Any]] = [
        ("program", lambda row: row["implementation"] + ("" if row["why"] == "best" else " (ancestor)")),
        ("rank", lambda row: f"{_or_dash(row['old'], 'rank')} → {_or_dash(row['new'], 'rank')}"),
        ("outcome", lambda row: f"{_or_dash(row['old'], 'outcome')} → {row['new']['outcome']}"),
    ]
    for side in ("old", "new"):
        basis = "".join(f" ({where})" for where in sorted(_of(rows, side)) if len(_of(rows, side)) == 1)
        columns.append((f"{side} time{basis}", times_of(side)))
    if any(_ratio(row) is not None for row in rows):
        columns.append(("new ÷ old", lambda row: None if _ratio(row) is None else f"{_ratio(row):.3f}"))
    names = [
        name
        for row in rows
        for side in ("old", "new")
        for name, value in ((row[side] or {}).get("speedup") or {}).items()
        if value is not None
    ]
    for name in dict.fromkeys(names):
        for side in ("old", "new"):
            columns.append((f"{side} over {'torch.compile' if name == 'compile' else name}", over(side, name)))
    return columns


def _or_dash(evaluation: _Document | None, name: str) -> object:
    return "-" if evaluation is None or evaluation[name] is None else evaluation[name]


def _time(evaluation: _Document, each: bool) -> str | None:
    from .. import render

    if evaluation["time_ms"] is None:
        return None
    return render.milliseconds(evaluation["time_ms"]) + (f" {_where(evaluation)}" if each else "")


def _ratio(row: _Document) -> float | None:
    """New time over old, where both are there and of one basis."""
    old, new = row["old"], row["new"]
    if old is None or old["basis"] != new["basis"] or not old["time_ms"] or not new["time_ms"]:
        return None
    return float(new["time_ms"]) / float(old["time_ms"])


def _notes(rows: Sequence[_Document]) -> list[str]:
    """What changed, and how far old and new may be compared."""
    by_text: dict[str, list[str]] = {}
    for row in rows:
        for change in row["changed"]:
            text = f"{change['what']} {_word(change['old'])} → {_word(change['new'])}"
            by_text.setdefault(text, []).append(row["implementation"])
    lines = [
        f"changed: {text}" + ("" if len(who) == len(rows) else f" ({', '.join(who)})") for text, who in by_text.items()
    ]
    if not lines:
        lines = ["changed: nothing (same device, precision, tolerance, versions and protocol)"]
    old, new = ({row[side]["basis"] for row in rows if row[side] is not None} for side in ("old", "new"))
    if old and old != new:
        lines.append(
            f"note: figures that are {' or '.join(sorted(old))} and figures that are {' or '.join(sorted(new))} are"
            " not compared: each stands in its own column, and a rank is among figures of one basis"
        )
    elif _of(rows, "old") and _of(rows, "old") != _of(rows, "new"):
        then, now = (" or ".join(sorted(_of(rows, side))) for side in ("old", "new"))
        lines.append(f"note: old figures are {then}, new ones {now}")
    kept = [row["implementation"] for row in rows if row["kept"]]
    if kept:
        lines.append(f"note: {', '.join(kept)} judged by an earlier replay by the same rules; --again judges anew")
    return lines


def _word(value: object) -> str:
    return "none" if value is None or value == "" else str(value)
