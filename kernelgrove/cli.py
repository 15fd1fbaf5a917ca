"""The command line: the application, its commands by name, and what every error becomes. Imports nothing heavy.

Exit codes: 0 done; 1 the thing asked about failed (a wrong candidate, a search with no kernel); 2 wrong usage or bad
input; 3 the environment lacks something, or KernelGrove itself cannot go on; 130 interrupted, with everything saved.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from . import __version__
from .commands import (
    care,
    compare,
    control,
    cost,
    doctor,
    drain,
    evaluate,
    facts,
    interchange,
    prompt,
    query,
    read,
    replay,
    search,
    tasks,
)
from .errors import KernelGroveError

app = typer.Typer(
    name="kernelgrove",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

app.command("run")(search.run)
app.command("resume")(search.resume)
app.command("ls")(read.ls)
app.command("show")(read.show)
app.command("tree")(read.tree)
app.command("best")(read.best)
app.command("query")(query.query)
app.command("lineage")(compare.lineage)
app.command("diff")(compare.diff)
app.command("stats")(compare.stats)
app.command("eval")(evaluate.evaluate)
app.command("replay")(replay.replay)
app.add_typer(tasks.app, name="tasks")
app.command("drain")(drain.drain)
app.command("prompt")(prompt.prompt)
app.command("cost")(cost.cost)
app.command("pause")(control.pause)
app.command("retry")(control.retry)
app.command("verify")(care.verify)
app.command("backup")(care.backup)
app.command("gc")(care.gc)
app.command("export")(interchange.export)
app.command("import")(interchange.import_)
app.command("problems")(facts.problems)
app.command("gpus")(facts.gpus)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kernelgrove {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Search for a faster GPU kernel that computes what a PyTorch module computes.

    Start with: kernelgrove run rms_norm --model rules
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code; every failure is one sentence on standard error."""
    gc.set_threshold(100_000, 50, 50)  # imports make many objects and free few: a sixth of the time to start is saved
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. ``--debug`` may stand anywhere before ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    if debug:
        os.environ["KERNELGROVE_DEBUG"] = "1"  # the judge then says on standard error what went wrong in it
    kept = [word for index, word in enumerate(arguments) if word != "--debug" or index >= end]
    command = typer.main.get_command(app)
    try:
        with command.make_context("kernelgrove", kept or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:
        # The reader of our output has left: what a shell reports for a program that SIGPIPE ended. Standard output
        # is pointed elsewhere, or the interpreter complains once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _explain(error)


def _explain(error: Exception) -> int:
    """One sentence for *error* on standard error; the exit code that goes with it."""
    if isinstance(error, KernelGroveError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    describe = getattr(error, "format_message", None)  # the command line library's own usage errors
    if describe is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "kernelgrove"
        text = " ".join(str(describe()).split()).replace("Value error, ", "")
        print(f"error: {text}{'' if text[-1:] in '.?)' else '.'} Try '{path} --help'.", file=sys.stderr)
        return 2
    text = " ".join(str(error).split()) or "no message"
    print(f"internal error: {type(error).__name__}: {text} (run again with --debug for the traceback)", file=sys.stderr)
    return 3
