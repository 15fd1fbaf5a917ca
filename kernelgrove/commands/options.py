"""Options that several commands share, and how a document leaves the program."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Any

import typer

from ..model import Backend, Precision

DEFAULT_DB = "grove.db"

Db = Annotated[str, typer.Option("--db", envvar="KERNELGROVE_DB", metavar="URL", help="The grove: a file or a URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; logs go to standard error.")]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="auto|cuda:N|cpu", help="Where candidates run.  [default: auto]"),
]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="GPU", help="GPU to write for: the device's own, or H100 on cpu."),
]
Size = Annotated[str | None, typer.Option("--size", metavar="NAME", help="A size that the problem names: full, small.")]
BackendOption = Annotated[
    Backend | None,
    typer.Option("--backend", metavar="triton|cuda|torch", help="What candidates are written in.  [default: triton]"),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="default|strict|tf32|any",
        help="Lower precision that both sides may use.  [default: default]",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option("--tolerance", metavar="X", help="allclose(atol=rtol=X) in place of the fp64 rule."),
]
Trials = Annotated[int | None, typer.Option("--trials", help="Correctness checks on secret inputs.  [default: 5]")]
Samples = Annotated[int | None, typer.Option("--samples", help="Timed calls.  [default: 100]")]
Require = Annotated[
    str | None,
    typer.Option("--require", metavar="custom", help="Reject what PyTorch's operators compute, or help to."),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        metavar="NAME,NAME",
        help="What to compare with besides eager: compile, max-autotune.  [default: compile]",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="For each stage of a candidate: 60, 90s, 2m.  [default: 60]"),
]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings in TOML.  [default: kernelgrove.toml, where there is one]"),
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="NAME=on|off",
        help="A part of prompts: gpu, concepts, practices, example, profile, history; repeatable.",
    ),
]
PromptTokens = Annotated[
    int | None,
    typer.Option("--prompt-tokens", help="Longest prompt; what is older or helps less is left out.  [default: 48000]"),
]
AllowUnsafe = Annotated[
    bool, typer.Option("--allow-unsafe", help="Run candidates though a required sandbox layer is missing.")
]


@dataclass(frozen=True)
class Output:
    """Where a command writes: ``document`` is standard output, ``progress`` what a person may follow."""

    document: IO[str]
    progress: IO[str]

    def emit(self, document: Any, *, indent: int | None = 2) -> None:
        """Write one JSON document. NaN and infinities in it are a bug and raise ValueError."""
        self.document.write(json.dumps(document, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")
        self.document.flush()


@contextlib.contextmanager
def output(json_wanted: bool) -> Iterator[Output]:
    """With ``--json`` whatever is printed on the way (a problem file may print when it is loaded) and all progress
    go to standard error, so that standard output holds the document alone. Logs are kept to --debug: what a person
    must know is an event, a message or an error."""
    log = logging.getLogger("kernelgrove")
    log.addHandler(logging.StreamHandler() if os.environ.get("KERNELGROVE_DEBUG") else logging.NullHandler())
    if not json_wanted:
        yield Output(sys.stdout, sys.stdout)
        return
    document = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield Output(document, sys.stderr)
