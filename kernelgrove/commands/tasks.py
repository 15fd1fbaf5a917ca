"""``tasks``: proposer jobs that wait for a person or an agent, taken and answered one by one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, parse

if TYPE_CHECKING:
    from ..engine.tasks import Shown
    from ..storage import SqliteStore

app = typer.Typer(
    help="Proposer jobs for people and agents: list, take, answer.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

_Search = Annotated[
    str | None,
    typer.Argument(metavar="S", help="A search: s1 or its name; all with --model queue when left out."),
]
_Task = Annotated[str, typer.Argument(metavar="TASK", help="t7, as `tasks next` says.")]
_As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who answers: kept with what comes of it, as queue:NAME.")
]

#: Seconds between looks for a task with --wait.
_LOOK_S = 0.5


@app.command("ls")
def ls(search: _Search = None, db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """List the tasks that wait for an answer."""
    from ..storage import open_store
    from ..storage.tasks import open_tasks

    with options.output(json) as out, open_store(db) as store:
        found = open_tasks(store, _search(store, search))
        if json:
            out.emit(
                [
                    {
                        "task": one.id,
                        "kind": str(one.job.kind),
                        "search": f"s{one.job.search}",
                        "problem": one.problem,
                        "target": one.target,
                        "idea": one.idea,
                        "state": "held" if one.holder else "open",
                        "holder": one.holder,
                        "lease_until": one.lease_until,
                    }
                    for one in found
                ]
            )
            return
        if not found:
            print("no task waits for an answer")
            return
        from ..engine.tasks import held_for
        from ..render import put, shorten, table

        rows = [
            (one.id, str(one.job.kind), f"s{one.job.search}", one.problem, held_for(one), shorten(one.idea or "", 70))
            for one in found
        ]
        put(table(("task", "kind", "search", "problem", "held by", "idea"), rows))


@app.command("next")
def next_(
    search: _Search = None,
    name: _As = None,
    lease: Annotated[str, typer.Option("--lease", metavar="TIME", help="How long it is kept for you: 30m, 2h.")] = "1h",
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="TIME", help="Wait so long for one; without it, not at all.")
    ] = None,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Take the oldest open task and show its prompt.

    It is yours until it is answered, released, or its lease is over. Exit code 1 when none is open.
    """
    from ..engine import tasks
    from ..storage import open_store
    from ..storage.tasks import QUEUE

    seconds, patience = parse.duration(lease, "--lease"), parse.duration(wait, "--wait") if wait else 0.0
    end = time.monotonic() + patience
    with options.output(json) as out, open_store(db) as store:
        number = _search(store, search)
        while True:
            found = tasks.take(store, number, name or QUEUE, seconds)
            if found is not None or time.monotonic() >= end:
                break
            time.sleep(_LOOK_S)
        if found is None:
            if json:
                out.emit(None)
            print("no task is open", file=sys.stderr)
            raise typer.Exit(1)
        _put(out, tasks.show_task(store, found), json)


@app.command("show")
def show(task: _Task, db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Show a task's prompt again. Takes nothing."""
    from ..engine import tasks
    from ..storage import open_store
    from ..storage.tasks import task as find

    with options.output(json) as out, open_store(db) as store:
        _put(out, tasks.show_task(store, find(store, task)), json)


@app.command("answer")
def answer(
    task: _Task,
    file: Annotated[str, typer.Option("--file", "-f", metavar="F|-", help="The answer; - is standard input.")] = "-",
    name: _As = None,
    cost_usd: Annotated[
        float,
        typer.Option("--cost-usd", min=0.0, help="What the answer cost, for the ledger."),
    ] = 0.0,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Answer a task.

    The answer is read and checked at once. One that breaks the contract is refused with the reason (exit code 2), and
    the task stays open.
    """
    from ..engine import tasks
    from ..storage import open_store

    content = sys.stdin.read() if file == "-" else parse.read_text(file, "answer")
    with options.output(json) as out, open_store(db) as store:
        said = tasks.answer(store, task, content, name, cost_usd)
        if json:
            out.emit({"task": task, "accepted": True, "note": said})
        else:
            print(said)


@app.command("release")
def release(task: _Task, db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Give a task back, so that somebody else may take it."""
    from ..engine import tasks
    from ..storage import open_store

    with options.output(json) as out, open_store(db) as store:
        found = tasks.release(store, task)
        if json:
            out.emit({"task": found.id, "state": "open"})
        else:
            print(f"{found.id} is open again")


def _search(store: SqliteStore, text: str | None) -> int | None:
    from ..storage.documents import find_search

    return None if text is None else find_search(store, text)


def _put(out: options.Output, shown: Shown, json: bool) -> None:
    document: dict[str, Any] = shown.document()
    if json:
        out.emit(document)
        return
    print(document["prompt"])
    print(f"\n--- {document['task']}: {document['kind']} for {document['search']}, about {document['tokens']} tokens")
    print(f"--- answer with: kernelgrove tasks answer {document['task']} --file F")
