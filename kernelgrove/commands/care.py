"""``verify``, ``backup`` and ``gc``: looking after a grove."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import options


def verify(db: options.Db = options.DEFAULT_DB, json: options.Json = False) -> None:
    """Check that a grove is sound.

    The file's pages and indexes, references, hashes of programs, full text, and states that must not be. Exit code 1
    and a line for each thing that is wrong.
    """
    from ..storage import open_store
    from ..storage.care.verify import verify as check

    with options.output(json) as out, open_store(db) as store:
        verdict = check(store)
        if json:
            out.emit(
                {
                    "sound": not verdict.findings,
                    "checks": list(verdict.checks),
                    "findings": [{"check": finding.check, "says": finding.says} for finding in verdict.findings],
                    "notes": list(verdict.notes),
                }
            )
        else:
            for finding in verdict.findings:
                print(f"{finding.check}: {finding.says}")
        for note in verdict.notes:
            print(f"note: {note}", file=sys.stderr)
        if verdict.findings:
            if not json:
                some = len(verdict.findings)
                print(
                    f"{db}: {some} thing{'s are' if some > 1 else ' is'} wrong. Restore a backup, or save what can be "
                    "read with `kernelgrove export`.",
                    file=sys.stderr,
                )
            raise typer.Exit(1)
        if not json:
            print(f"{db} is sound ({len(verdict.checks)} checks)")


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The copy; a file that exists is never overwritten.")],
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Copy a grove to one file, while searches go on writing."""
    from ..storage import open_store
    from ..storage.care.backup import backup as copy

    with options.output(json) as out, open_store(db) as store:
        size = copy(store, file)
        if json:
            out.emit({"backup": file, "bytes": size})
        else:
            print(f"{db} is copied to {file} ({size / 1e6:.1f} MB)")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Then give free space back to the file system.")] = False,
    db: options.Db = options.DEFAULT_DB,
    json: options.Json = False,
) -> None:
    """Drop programs, devices and problems that nothing refers to.

    Searches, ideas, implementations and evaluations are never dropped.
    """
    from ..storage import open_store
    from ..storage.care import unused

    with options.output(json) as out, open_store(db) as store:
        found = unused.drop_unused(store, dry_run=dry_run)
        sizes = unused.vacuum(store) if vacuum and not dry_run else None
        if json:
            rows = [{"table": row.table, "id": row.id, "what": row.label} for row in found]
            out.emit({"dropped": not dry_run, "unused": rows, "bytes": None if sizes is None else list(sizes)})
            return
        for row in found:
            print(f"{row.table} {row.id}  {row.label}")
        print(f"{len(found)} {'would be' if dry_run else 'were'} dropped")
        if sizes is not None:
            print(f"{db}: {sizes[0] / 1e6:.1f} MB before, {sizes[1] / 1e6:.1f} MB now")
