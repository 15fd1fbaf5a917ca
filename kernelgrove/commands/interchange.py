"""``export`` and ``import``: searches as files of other programs, and back."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from ..model import Problem
    from ..storage import SqliteStore
    from ..storage.importers.described import Imported


class Format(StrEnum):
    JSONL = "jsonl"
    GRAPHML = "graphml"
    DOT = "dot"
    CSV = "csv"
    KERNELBENCH = "kernelbench"


def export(
    searches: Annotated[
        list[str] | None, typer.Argument(metavar="[S]...", help="Searches: s1 or a name; the latest when left out.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", metavar="jsonl|graphml|dot|csv|kernelbench", help="What to write.")
    ] = Format.JSONL,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE|DIR", help="Where; standard output when left out.")
    ] = None,
    grove: Annotated[bool, typer.Option("--grove", help="Every search of the grove.")] = False,
    rescue: Annotated[
        bool, typer.Option("--salvage", help="Of a damaged grove, every search as far as it can be read.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="kernelbench: all that passed, not the best alone.")] = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Write searches as a file that other programs read.

    jsonl is complete: import it into another grove and nothing is missing. kernelbench writes a folder, and exits
    with code 1 when nothing has passed.
    """
    if output is None and (json or format is Format.KERNELBENCH):
        what = "--json prints a summary" if json else "--format kernelbench writes a folder"
        raise UsageError(f"{what}, so the export needs a place.", "Name one with -o.")
    if every and format is not Format.KERNELBENCH:
        raise UsageError("--all belongs to --format kernelbench.", "The other formats hold every implementation.")
    if rescue and (format is not Format.JSONL or searches):
        raise UsageError("--salvage writes every search, as jsonl.", "Leave out the names and --format.")
    from ..storage import documents, open_store

    with options.output(json) as out, open_store(db) as store:
        if rescue:
            out.emit(_salvage(store, output)) if json else _salvage(store, output)
            return
        if grove and searches:
            raise UsageError("--grove exports every search.", "Leave out the names, or --grove.")
        if grove:
            numbers = [int(row["search"][1:]) for row in documents.list_document(store)]
        else:
            names: list[str | None] = [*searches] if searches else [None]
            numbers = list(dict.fromkeys(documents.find_search(store, name) for name in names))
        document: dict[str, Any] = {"format": str(format), "searches": [f"s{number}" for number in numbers]}
        if format is Format.KERNELBENCH:
            assert output is not None
            document |= _kernelbench(store, numbers, Path(output), every)
        else:
            document |= {"file": output, "bytes": _export(store, numbers, format, output)}
        if json:
            out.emit(document)
        elif output is not None:
            size = f"{document['bytes']} bytes" if "bytes" in document else f"{len(document['files'])} files"
            print(f"{', '.join(document['searches'])} in {output}: {format}, {size}", file=sys.stderr)
    if format is Format.KERNELBENCH and not document["files"]:
        print("Nothing has passed: no kernel was written.", file=sys.stderr)
        raise typer.Exit(1)


def _salvage(store: SqliteStore, output: str | None) -> dict[str, Any]:
    """Write what can be read, and say on standard error what is lost."""
    from ..storage import documents, open_store
    from ..storage.care.salvage import salvage

    with tempfile.TemporaryDirectory(prefix="kernelgrove-") as folder:
        path = Path(folder) / "salvaged.db"
        done = salvage(store, path)
        with open_store(path) as sound:
            numbers = [int(row["search"][1:]) for row in documents.list_document(sound)]
            size = _export(sound, numbers, Format.JSONL, output)
    for line in done.unreadable:
        print(f"lost: {line}", file=sys.stderr)
    for line in done.mended:
        print(f"mended: {line}", file=sys.stderr)
    held = ", ".join(f"{count} {table}" for table, count in done.rows.items() if count)
    print(f"{'saved' if done.unreadable else 'nothing was lost; saved'}: {held}", file=sys.stderr)
    return {
        "format": str(Format.JSONL),
        "searches": [f"s{number}" for number in numbers],
        "file": output,
        "bytes": size,
        "rows": done.rows,
        "lost": done.unreadable,
        "mended": done.mended,
    }


def _export(store: SqliteStore, searches: list[int], format: Format, output: str | None) -> int:
    """Write one file; how many bytes."""
    if format is Format.JSONL:
        from ..storage.exporters.lines import export

        with store.read() as connection:
            return _deliver(export(connection, searches), output)
    if format is Format.CSV:
        import io

        from ..storage.exporters import flat

        text = io.StringIO(newline="")
        flat.write(store, searches, text)
        return _deliver([text.getvalue()], output)
    from ..storage.exporters import graph

    tree = graph.tree_graph(store, searches)
    return _deliver([graph.graphml(tree) if format is Format.GRAPHML else graph.dot(tree)], output)


def _deliver(parts: Iterable[str], output: str | None) -> int:
    """To standard output, or to a file that is there in full or not at all: a crash leaves the old one."""
    size = 0
    if output is None:
        for part in parts:
            data = part.encode()
            size += len(data)
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return size
    path = Path(output)
    if path.is_dir():
        raise UsageError(f"{output} is a folder.", "Name a file with -o.")
    try:
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", "Name another file with -o.") from None
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                size += file.write(part.encode())
        mask = os.umask(0)
        os.umask(mask)
        Path(made).chmod(0o666 & ~mask)  # mkstemp's files are private
        Path(made).replace(path)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", "Name another file with -o.") from None
    finally:
        Path(made).unlink(missing_ok=True)
    return size


def _kernelbench(store: SqliteStore, searches: list[int], folder: Path, every: bool) -> dict[str, Any]:
    from ..problems.kernelbench import identify
    from ..storage.exporters import kernelbench

    def place(name: str, path: str | None) -> tuple[int, int] | None:
        found = (path and identify(path)) or identify(name)
        return None if not found else (found.level or 0, found.number)

    files = kernelbench.collect(store, searches, place, every=every)
    try:
        if files and folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty, and a run's files would mix.", "Name a new folder with -o.")
        if files:
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.", "Name another folder with -o.") from None
    return {"folder": str(folder), "files": sorted(files)}


# -------------------------------------------------------------------------------------------------------- import


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DIR",
            help="A jsonl export, TritonLLM's search_results_*.json, a KernelBench run's folder.",
        ),
    ],
    problem: Annotated[
        list[str] | None,
        typer.Option("--problem", metavar="FILE", help="The reference that a foreign file lacks; or a folder of them."),
    ] = None,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Add the searches of a file to the grove.

    What another program claims is kept with the basis `imported`, apart from what was measured here. A file that is
    broken anywhere adds nothing. One that is here already is not added again; given --problem, its searches get the
    reference that they lack.
    """
    from ..storage import documents, open_store

    with options.output(json) as out:
        format, load = _recognised(source, problem or [])
        with open_store(db, create=True) as store:
            done = load(store)
            found = [documents.search_document(store, search) for search in done.searches]
        document = {
            "format": format,
            "source": source,
            "already": done.already,
            "searches": [one["search"] for one in found],
            "attached": [f"s{search}" for search in done.attached],
            "nodes": sum(one["nodes"] for one in found),
            "implementations": sum(one["implementations"] for one in found),
            "reference_missing": [one["search"] for one in found if one["reference"] != "attached"],
        }
        if json:
            out.emit(document)
            return
        _say(document)


def _say(document: dict[str, Any]) -> None:
    names = document["searches"]
    shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)} searches)"
    from ..render import number_of

    held = f"{number_of(document['nodes'], 'node')}, {number_of(document['implementations'], 'implementation')}"
    print(f"{document['source']} is here already as {shown}" if document["already"] else f"{shown}: {held}")
    if document["attached"]:
        print(f"the reference is attached to {', '.join(document['attached'])}")
    if document["reference_missing"]:
        first, *more = document["reference_missing"]
        lacking = f"{first} and {len(more)} more" if more else first
        print(f"the reference is not attached to {lacking}; import it again with --problem FILE to attach it")


def _recognised(source: str, problems: list[str]) -> tuple[str, Callable[[SqliteStore], Imported]]:
    """What *source* is, read and checked, and what writes it to a store. Raises UsageError."""
    from ..storage.importers.entries import parse_json

    path = Path(source)
    if path.is_dir():
        return "kernelbench", _kernelbench_run(path, problems)
    try:
        with path.open("rb") as file:
            head = file.readline(65536)
            if b'"kernelgrove-jsonl"' in head:
                if problems:
                    raise UsageError("--problem belongs to files that lack their reference.", "An export has its own.")
                return "jsonl", lambda store: _jsonl(store, path)
            content = head + file.read()
    except FileNotFoundError:
        raise UsageError(f"There is no file {source}.", "Check the path.") from None
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from None
    from ..storage.importers import tritonllm

    value = parse_json(content, source)
    if tritonllm.recognise(value):
        return "tritonllm", _tritonllm(path, value, content, problems)
    raise UsageError(
        f"{source} is nothing that can be imported.",
        "Give an export (jsonl), TritonLLM's search_results_*.json, or the folder of a KernelBench run.",
    )


def _jsonl(store: SqliteStore, path: Path) -> Imported:
    from ..storage.importers import jsonl

    with path.open("rb") as file:
        return jsonl.load(store, file, str(path))


def _tritonllm(path: Path, value: Any, content: bytes, problems: list[str]) -> Callable[[SqliteStore], Imported]:
    from ..storage.importers import described, tritonllm

    references = _references(problems)
    if len(references) > 1:
        raise UsageError(f"{path} is of one problem, and --problem names {len(references)}.", "Give its own.")
    found = tritonllm.describe(value, path.name, next(iter(references.values()), None))
    sha256 = hashlib.sha256(content).hexdigest()
    return lambda store: described.write(store, [found], sha256, path.name)


def _kernelbench_run(path: Path, problems: list[str]) -> Callable[[SqliteStore], Imported]:
    from ..problems.kernelbench import identify
    from ..storage.importers import described, kernelbench

    run = kernelbench.read(path)
    references = _references(problems)
    named = {file: identify(str(Path(file).absolute())) for file in references}

    def reference(key: tuple[int, int]) -> Problem | None:
        level, number = key
        for file, found in named.items():
            if found is not None and found.number == number and found.level in (None, level):
                return references[file]
        return next(iter(references.values())) if len(references) == len(run.kernels) == 1 else None

    found = kernelbench.describe(run, reference)
    used = {one.problem.path for one in found}
    unused = [file for file in problems if not Path(file).is_dir() and file not in used]
    if unused:
        raise UsageError(
            f"--problem {unused[0]} is none of the run's problems.", "Its name must be KernelBench's: 23_Softmax.py."
        )
    return lambda store: described.write(store, found, run.sha256, run.name)


def _references(problems: list[str]) -> dict[str, Problem]:
    """name as given -> problem; of a folder, every KernelBench problem below it."""
    from ..problems.kernelbench import identify
    from ..problems.problem import load

    files: list[str] = []
    for name in problems:
        if Path(name).is_dir():
            files += [str(file) for file in sorted(Path(name).rglob("*.py")) if identify(str(file)) is not None]
        else:
            files.append(name)
    return {file: load(file) for file in dict.fromkeys(files)}
