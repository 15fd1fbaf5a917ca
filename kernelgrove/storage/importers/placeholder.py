"""The problem of a search whose file names its reference and does not hold it. Standard library and model only."""

from __future__ import annotations

from ...model import Problem

#: How the text of such a problem begins: a comment, so that whoever prints it shows what is the matter.
MARK = "# reference not attached"


def placeholder(name: str) -> Problem:
    """A problem of that *name* without a reference. Its digest depends on the name, so that two problems differ."""
    return Problem(
        name=name,
        source=f"{MARK}: the imported file names {name!r} and does not hold its text.\n"
        "# Import it again with --problem FILE to attach the reference.\n",
    )


def attached(source: str) -> bool:
    """Whether *source* is a reference, and not a placeholder for one: without it nothing can be replayed."""
    return not source.startswith(MARK)
