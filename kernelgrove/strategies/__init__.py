"""Strategies by name. A strategy is one file: a pure function of the tree (see ``ports.Strategy``).

A strategy module holds a class with a ``name``, a constructor that takes its options by keyword, ``OPTIONS``, and
where options depend on each other ``settle``. To add one: write the file, name it below; the contract suite then runs
over it. One of your own needs no place here: ``--strategy module:Class`` (see ``custom`` and docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..ports import Strategy
from . import branch, custom, evolve, mcts, refine, tree_of_thought, zero_shot
from .options import Option, names_of, nearest, read

DEFAULT = "tree_of_thought"

_STRATEGIES: Mapping[str, tuple[type, Any]] = {
    cls.name: (cls, module)
    for cls, module in (
        (branch.Branch, branch),
        (evolve.Evolve, evolve),
        (mcts.Mcts, mcts),
        (refine.Refine, refine),
        (tree_of_thought.TreeOfThought, tree_of_thought),
        (zero_shot.ZeroShot, zero_shot),
    )
}

#: What each strategy can be told, for help and for checking.
OPTIONS: Mapping[str, tuple[Option, ...]] = {name: module.OPTIONS for name, (_, module) in _STRATEGIES.items()}


def names() -> tuple[str, ...]:
    return tuple(sorted(_STRATEGIES))


def make(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy *name* with *options* over its defaults (values as typed: ``"3,4,4,5"``, ``"5"``, or parsed). A name
    with a colon is ``module:Class``.

    Raises UsageError for an unknown strategy or option (naming the nearest), for a value that will not do, for options
    that contradict each other and for a class that is no strategy; EnvironmentLacks where one needs an extra.
    """
    given = options or {}
    if ":" in name:
        return custom.make(name, given)
    if name not in _STRATEGIES:
        hint = nearest(name, names())
        raise UsageError(
            f"no strategy {name!r}{f': did you mean {hint!r}?' if hint else '.'}",
            f"There are: {', '.join(names())}; your own is named module:Class",
        )
    made, module = _STRATEGIES[name]
    values = read(name, module.OPTIONS, given)
    if hasattr(module, "settle"):
        values = module.settle(values, names_of(module.OPTIONS, given))
    strategy: Strategy = made(**values)
    return strategy


def canonical(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* under the names that ``OPTIONS`` gives them, as plain JSON values. Raises UsageError as ``make``."""
    make(name, options)
    return names_of(custom.options_of(name) if ":" in name else OPTIONS[name], options)


def describe() -> str:
    """Every strategy's options, one a line, for help."""
    lines: list[str] = []
    for name in names():
        made, module = _STRATEGIES[name]
        lines.append(f"{name}: {(made.__doc__ or '').strip().splitlines()[0]}")
        lines += [f"  {o.name}={o.shown}  {o.help}" for o in module.OPTIONS]
    return "\n".join(lines)
