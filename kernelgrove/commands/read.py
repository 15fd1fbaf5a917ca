"""``ls``, ``show``, ``tree`` and ``best``: what a grove holds. These never write and import no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import EmptyGrove, UsageError
from ..model import Outcome
from . import options, pages

_Search = Annotated[str | None, typer.Argument(metavar="S", help="A search: s1 or its name; the latest when left out.")]


def ls(db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """List the searches of a grove."""
    from ..storage import documents, open_store

    with options.output(json) as out:
        try:
            with open_store(db) as store:
                rows = documents.list_document(store)
        except EmptyGrove:  # a `run` that was killed before it had stored its search
            rows = []
        if json:
            out.emit(rows)
            return
        from ..render import put, search_table

        put(search_table(rows))


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="s1, n2, i3 or e4.")],
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Show a search, idea, implementation or evaluation.

    An implementation comes with its code, its message and its figures.
    """
    from ..storage import documents, open_store

    with options.output(json) as out, open_store(db) as store:
        document = documents.show_document(store, id)
        if json:
            out.emit(document)
            return
        pages.show(document)


def tree(
    search: _Search = None,
    depth: Annotated[int | None, typer.Option("--depth", min=0, help="Fold what is deeper than this.")] = None,
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option("--outcome", metavar="OUTCOME", help="Only implementations that ended so; repeatable."),
    ] = None,
    hide_pruned: Annotated[bool, typer.Option("--hide-pruned", help="Fold pruned ideas away.")] = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Draw the tree of a search.

    Ideas, what came of each implementation, and the best time at each idea.
    """
    from ..storage import documents, open_store

    with options.output(json) as out, open_store(db) as store:
        number = documents.find_search(store, search)
        document = documents.tree_document(store, number, depth=depth, outcomes=outcome or (), hide_pruned=hide_pruned)
        if json:
            out.emit(document)
            return
        from ..render import console, idea_tree, put

        put(idea_tree(document, width=console().width))


def best(
    search: _Search = None,
    output: Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the code there.")] = None,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Show the best implementation of a search, or write it to a file.

    Exit code 1 when nothing has passed.
    """
    from ..storage import documents, open_store

    with options.output(json) as out, open_store(db) as store:
        number = documents.find_search(store, search)
        found = documents.best(store, number)
        if found is None:
            if json:
                out.emit(None)
            print(f"s{number}: no implementation has passed yet.", file=sys.stderr)
            raise typer.Exit(1)
        if output is not None:
            _write(output, found["code"])
        if json:
            out.emit(found)
            return
        if output is not None:
            print(f"{found['implementation']} is in {output}: {pages.figure(found)}")
        else:
            pages.best(found)


def _write(path: str, code: str) -> None:
    try:
        Path(path).write_text(code, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another file with -o.") from None
