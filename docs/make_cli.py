"""Print docs/cli.md from the command line itself: ``python docs/make_cli.py > docs/cli.md`` (``make docs``).

A test compares the two, so the page cannot drift. Only names, help texts and defaults are used, so that the page is the
same whatever version of the command line library is installed.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.main import get_command

from kernelgrove.cli import app

HEAD = """\
# Command line

<!-- written by docs/make_cli.py: run `make docs` after a change -->

Ids are `s1` (search), `n2` (node), `i3` (implementation), `e4` (evaluation). `--db` is a file or a database URL
(default `./grove.db`, or `KERNELGROVE_DB`). With `--json` a command prints one JSON document on standard output and
everything else on standard error. `--debug` shows the traceback of an error, `--version` the version.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | the thing asked about failed: a candidate that is not `ok`, a finished search with no kernel |
| 2 | wrong usage or bad input: one sentence on standard error says what, where and what to do |
| 3 | the environment lacks something (a device, a required sandbox layer), or KernelGrove itself cannot go on |
| 130 | interrupted, with everything saved |

A reader that leaves early (`kernelgrove ls | head -1`) ends a command with 141, as a shell reports for SIGPIPE.
"""


def page() -> str:
    """The whole page as Markdown."""
    group: Any = get_command(app)
    parts = [HEAD]
    for name, command in group.commands.items():
        parts.append(_group(name, command) if hasattr(command, "commands") else _section(name, command))
    return "\n".join(parts)


def _group(name: str, group: Any) -> str:
    """A command that has commands of its own."""
    inner = [_section(f"{name} {word}", command, level=3) for word, command in group.commands.items()]
    words = " | ".join(group.commands)
    return "\n".join([f"## {name}", "", f"```\nkernelgrove {name} {words}\n```", "", group.help or "", "", *inner])


def _section(name: str, command: Any, level: int = 2) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    flags = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(["kernelgrove", name, *(_slot(a) for a in arguments), *(["[OPTIONS]"] if flags else [])])
    lines = [f"{'#' * level} {name}", "", f"```\n{usage}\n```", "", inspect.cleandoc(command.help or ""), ""]
    rows = [(f"`{_slot(a)}`", a.help or "", "") for a in arguments]
    rows += [(_spelling(f), *_help_and_default(f)) for f in flags]
    lines += ["| option | what it says | default |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _slot(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _spelling(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return f"{names} `{option.metavar}`" if option.metavar else names


def _help_and_default(option: Any) -> tuple[str, str]:
    """A default that is found in several places (flag, environment, file) stands in the help text, in brackets."""
    text, _, written = (option.help or "").partition("  [default: ")
    if written:
        return text, f"`{written[:-1]}`"
    value = option.default
    if value is None or value is False or value == [] or callable(value):
        return text, ""
    return text, "yes" if value is True else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
