"""A problem's sizes: named values for the constants at the top of its file, read and written without running it.

``SIZES = {"full": {"rows": 8192}, "small": {"rows": 13}}`` names sets of values for constants that the file assigns
at its top level, as ``rows = 8192``. A size is applied by editing the text, so what runs is still one plain file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ProblemError
from ..model import Problem
from .parsing import parse

#: The size of a problem that is taken as its file is written.
GIVEN = "given"

#: The size that is timed where a problem names sizes.
FULL = "full"

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")


def assignments(tree: ast.Module) -> dict[str, list[ast.expr | None]]:
    """Every name assigned at the top level, with the value of each of its assignments.

    The value is None where it is not written for this name alone (``a = b = 1``, ``a, b = 1, 2``, ``a += 1``).
    """
    found: dict[str, list[ast.expr | None]] = {}
    for statement in tree.body:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        elif isinstance(statement, ast.AugAssign):
            targets = [statement.target]
        alone = len(targets) == 1 and isinstance(targets[0], ast.Name)
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    found.setdefault(node.id, []).append(value if alone else None)
    return found


def literal(tree: ast.Module, name: str, shown: str) -> Any:
    """The value that the file *shown* gives the top-level *name*, or None if it assigns no such name.

    Raises ProblemError where it is not one literal.
    """
    values = assignments(tree).get(name)
    if values is None:
        return None
    if len(values) != 1 or values[0] is None:
        raise ProblemError(f"{shown} does not assign {name} exactly once, on a line of its own, as a literal.")
    try:
        return ast.literal_eval(values[0])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ProblemError(
            f"{shown}:{values[0].lineno}: {name} is not a literal, and it is read without running the file."
        ) from None


def read_sizes(tree: ast.Module, shown: str) -> Mapping[str, Mapping[str, Any]]:
    """``SIZES`` of the file *shown*, checked: each size names constants that the file assigns, with plain values.

    Raises ProblemError for anything else.
    """
    sizes = literal(tree, "SIZES", shown)
    if sizes is None:
        return MappingProxyType({})
    if not isinstance(sizes, dict) or not all(isinstance(k, str) and isinstance(v, dict) for k, v in sizes.items()):
        raise ProblemError(f'{shown}: SIZES is not a dict such as {{"small": {{"rows": 8}}}}.')
    assigned = assignments(tree)
    for size, constants in sizes.items():
        if size == GIVEN or not size.isidentifier():
            raise ProblemError(f"{shown}: SIZES has a size called {size!r}; give it another name, such as 'small'.")
        for constant, value in constants.items():
            if constant not in assigned or constant in ("SIZES", "PRECISION", "MODE"):
                raise ProblemError(
                    f"{shown}: SIZES[{size!r}] names {constant!r}, which is not a constant assigned at the top of "
                    f"the file."
                )
            if len(assigned[constant]) != 1 or assigned[constant][0] is None:
                raise ProblemError(
                    f"{shown}: SIZES[{size!r}] names {constant}, which is not assigned exactly once on a line of its "
                    f"own, as in `{constant} = {value!r}`."
                )
            if not _plain(value):
                raise ProblemError(f"{shown}: SIZES[{size!r}][{constant!r}] is {value!r}, not a number or a tuple.")
    return MappingProxyType({size: MappingProxyType(dict(constants)) for size, constants in sizes.items()})


def size_name(problem: Problem, size: str | None) -> str:
    """What *size* stands for: itself, or for None ``full`` where the problem has it, else ``given``.

    Raises ProblemError for a size that the problem does not have, naming those that it has.
    """
    if size is None:
        return FULL if FULL in problem.sizes else GIVEN
    if size == GIVEN or size in problem.sizes:
        return size
    have = ", ".join(problem.sizes) or "none"
    raise ProblemError(f"{problem.name} has no size {size!r}; it has: {have} (and {GIVEN}, as the file is written).")


def sized_source(problem: Problem, size: str | None = None) -> str:
    """The problem's text at *size* (None: ``full`` where it has it, else as written).

    The constants that the size names get its values; every other byte stays. Raises ProblemError for an unknown size.
    """
    name = size_name(problem, size)
    if name == GIVEN:
        return problem.source
    assigned = assignments(parse(problem.source))
    edits: list[tuple[ast.expr, str]] = []
    for constant, value in problem.sizes[name].items():
        node = assigned[constant][0]
        assert node is not None  # read_sizes refused such a constant
        edits.append((node, repr(value)))
    return replace(problem.source, edits)


def replace(source: str, edits: Iterable[tuple[ast.expr, str]]) -> str:
    """*source* with the text of each expression replaced; the expressions must not overlap.

    Positions of ``ast`` are (line from 1, byte in the line's UTF-8 text).
    """
    text = source.encode()
    starts = [0]
    for line in _LINE.finditer(text):
        starts.append(line.end())
    pieces: list[bytes] = []
    at = 0
    for node, new in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset)):
        assert node.end_lineno is not None and node.end_col_offset is not None
        pieces += [text[at : starts[node.lineno - 1] + node.col_offset], new.encode()]
        at = starts[node.end_lineno - 1] + node.end_col_offset
    return b"".join([*pieces, text[at:]]).decode()


def _plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
