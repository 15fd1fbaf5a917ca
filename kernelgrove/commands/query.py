"""``query``: any question about past searches in one line. Never writes; imports no torch."""

from __future__ import annotations

import csv
import io
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import render
from ..errors import UsageError
from . import options, parse

if TYPE_CHECKING:
    from ..storage.query import Answer, Facts


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class Of(StrEnum):
    SEARCHES = "searches"
    NODES = "nodes"
    IMPLEMENTATIONS = "implementations"
    EVALUATIONS = "evaluations"
    COMPLETIONS = "completions"


def query(
    expression: Annotated[
        str | None, typer.Argument(metavar="EXPR", help="Like 'outcome = ok and idea ~ \"split-k\"'; docs/queries.md.")
    ] = None,
    of: Annotated[Of, typer.Option("--of", help="What to ask about.")] = Of.IMPLEMENTATIONS,
    columns: Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Fields to show.")] = None,
    sort: Annotated[str | None, typer.Option("--sort", metavar="FIELD[:desc]", help="Field to sort by.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many rows.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.TABLE,
    sql: Annotated[bool, typer.Option("--sql", help="Show the SQL and its values; run nothing.")] = False,
    raw: Annotated[
        str | None, typer.Option("--raw", metavar="SQL", help="Run SQL of your own; it can only read.")
    ] = None,
    sql_file: Annotated[str | None, typer.Option("--sql-file", metavar="FILE", help="The same, from a file.")] = None,
    fields: Annotated[bool, typer.Option("--fields", help="List the fields that --of has.")] = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Ask anything about past searches, in a small language or in SQL.

    Times and speedups come with their basis, and those of two bases are never ranked together.
    """
    from ..storage import open_store
    from ..storage.query import Wanted, ask, ask_raw

    if json and format not in (Format.TABLE, Format.JSON):
        raise UsageError(f"--json and --format {format} contradict each other.", "Give one of them.")
    format = Format.JSON if json else format
    own = raw if raw is not None else None if sql_file is None else parse.read_text(sql_file, "SQL file")
    if (raw is not None) + (sql_file is not None) + (expression is not None) > 1:
        raise UsageError("A query is given once: as EXPR, with --raw or with --sql-file.")
    if own is not None and (columns or sort or limit is not None or sql):
        raise UsageError("--columns, --sort, --limit and --sql are not for SQL of your own.", "Say it in the SQL.")
    with options.output(format is Format.JSON) as out:
        if fields:
            _emit(out, _fields(of), format)
            return
        with open_store(db) as store:
            if own is not None:
                _emit(out, ask_raw(store, own), format)
                return
            wanted = Wanted(str(of), _list(columns), sort, limit)
            answer = ask(store, expression or "", wanted, facts(), dry=sql)
        if sql:
            _emit_sql(out, answer, format)
        else:
            _emit(out, answer, format)


def _list(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError("--columns names no field.", "Write --columns implementation,speedup.")
    return names


def facts() -> Facts:
    """The architectures of the GPUs that this program knows."""
    from ..engine.gpus import specs
    from ..storage.query import Facts

    return Facts({g.name: (g.architecture, g.architecture.split()[0], g.arch) for g in specs.load().values()})


def _fields(of: Of) -> Answer:
    from ..storage.query import Answer
    from ..storage.query.relations import RELATIONS

    rows = [
        (name, field.kind.value, field.says, ", ".join(field.choices))
        for name, field in RELATIONS[str(of)].fields.items()
    ]
    return Answer(("field", "kind", "says", "one of"), rows, "")


# ------------------------------------------------------------------------------------------------- printing


def _emit(out: options.Output, answer: Answer, format: Format) -> None:
    match format:
        case Format.JSON:
            out.emit(
                [{name: _plain(cell) for name, cell in zip(answer.columns, row, strict=True)} for row in answer.rows]
            )
        case Format.CSV:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(answer.columns)
            writer.writerows([["" if cell is None else _plain(cell) for cell in row] for row in answer.rows])
            out.document.write(text.getvalue())
        case Format.MARKDOWN:
            lines = [
                answer.columns,
                ["---"] * len(answer.columns),
                *([_cell(cell) for cell in row] for row in answer.rows),
            ]
            for line in lines:
                out.document.write("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n")
        case _:
            _table(answer)


def _emit_sql(out: options.Output, answer: Answer, format: Format) -> None:
    if format is Format.JSON:
        out.emit({"sql": answer.sql, "values": list(answer.values)})
        return
    out.document.write(f"{answer.sql};\n")
    for number, value in enumerate(answer.values, 1):
        out.document.write(f"-- ?{number} is {value!r}\n")


def _table(answer: Answer) -> None:
    if not answer.rows:
        print("nothing found")
        return
    numbers = {
        name
        for at, name in enumerate(answer.columns)
        if all(isinstance(row[at], int | float | None) for row in answer.rows)
    }
    render.put(
        render.table(answer.columns, [[_cell(cell) for cell in row] for row in answer.rows], right=tuple(numbers))
    )


def _cell(cell: Any) -> str:
    """One line of text; numbers to four significant digits, which is more than any measurement holds."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 10_000 else f"{cell:.0f}"
    text = str(_plain(cell))
    return render.shorten(text, 400) if "\n" in text or len(text) > 400 else text


def _plain(cell: Any) -> Any:
    """*cell* as JSON can say it: bytes (only raw SQL gives them) as text, infinities as none."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, float) and cell in (float("inf"), float("-inf")):
        return None
    return cell
