"""Strategies by name. A strategy is one file: a pure function of the tree (see ``ports.Strategy``).

A strategy module holds a class with a ``name``, a constructor that takes its options by keyword, and ``OPTIONS``.
To add one: write the file, name it in ``_STRATEGIES``; the contract suite then runs over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..ports import Strategy
from . import branch, evolve, mcts, refine, tree_of_thought, zero_shot
from .options import Option, nearest, read

DEFAULT = "branch"

_MODULES = (branch, evolve, mcts, refine, tree_of_thought, zero_shot)

_STRATEGIES: Mapping[str, type] = {
    cls.name: cls
    for cls in (
        branch.Branch,
        evolve.Evolve,
        mcts.Mcts,
        refine.Refine,
        tree_of_thought.TreeOfThought,
        zero_shot.ZeroShot,
    )
}

#: What each strategy can be told, for help and for checking.
OPTIONS: Mapping[str, tuple[Option, ...]] = {
    name: module.OPTIONS for name, module in zip(_STRATEGIES, _MODULES, strict=True)
}


def names() -> tuple[str, ...]:
    return tuple(sorted(_STRATEGIES))


def make(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy *name* with *options* over its defaults (values as typed: ``"3,4,4,5"``, ``"5"``, or parsed).

    Raises UsageError for an unknown strategy or option (naming the nearest) and for a value that will not do.
    """
    if name not in _STRATEGIES:
        hint = nearest(name, names())
        raise UsageError(
            f"no strategy {name!r}{f': did you mean {hint!r}?' if hint else '.'}", f"There are: {', '.join(names())}"
        )
    strategy: Strategy = _STRATEGIES[name](**read(name, OPTIONS[name], options or {}))
    return strategy


def canonical(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* under the names that ``OPTIONS`` gives them, as plain JSON values. Raises UsageError as ``make``."""
    make(name, options)
    spelled = {alias: option.name for option in OPTIONS[name] for alias in (option.name, *option.aliases)}
    return {spelled[key.replace("-", "_")]: value for key, value in options.items()}


def describe() -> str:
    """Every strategy's options, one a line, for help."""
    lines: list[str] = []
    for name in names():
        summary = (_STRATEGIES[name].__doc__ or "").strip().splitlines()[0]
        lines.append(f"{name}: {summary}")
        lines += [f"  {o.name}={o.shown}  {o.help}" for o in OPTIONS[name]]
    return "\n".join(lines)
