"""A strategy of the user's own, named ``module:Class``, checked against the protocol before anything is paid for.

The module is looked for in the working directory, then on the Python path. The class has a ``name``, takes its
options by keyword (those in the ``OPTIONS`` of the class or its module) and has ``propose(self, view, slots, rng)``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..ports import Strategy
from .options import Option, nearest, read

_EXPECTED = "propose(self, view, slots, rng), which returns a sequence of actions"


def make(name: str, options: Mapping[str, Any]) -> Strategy:
    """The strategy that *name* (``module:Class``) says. Raises UsageError with what was expected."""
    found = _class(name)
    values = read(name, _options(name, found), options)
    try:
        strategy = found(**values)
    except TypeError as error:
        raise UsageError(
            f"strategy {name!r} cannot be made: {error}.", "Its constructor takes each of its OPTIONS by keyword."
        ) from error
    said = getattr(strategy, "name", None)
    if not isinstance(said, str) or not said:
        raise UsageError(f'strategy {name!r} has no name: expected a class attribute name = "…", found {said!r}.')
    _check_propose(name, strategy)
    return strategy  # type: ignore[no-any-return]


def options_of(name: str) -> tuple[Option, ...]:
    return _options(name, _class(name))


def _class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute.isidentifier():
        raise UsageError(f"strategy {name!r} is not of the form module:Class.", "Such as my_strategies:Greedy.")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
        why = "there is no such module" if missing else f"it raised {type(error).__name__}: {error}"
        raise UsageError(
            f"strategy {name!r}: module {module!r} cannot be imported: {why}.",
            "It is looked for in the working directory and on the Python path.",
        ) from error
    finally:
        sys.path.remove(here)
    cls = getattr(found, attribute, None)
    if cls is None:
        hint = nearest(attribute, vars(found))
        raise UsageError(
            f"strategy {name!r}: module {module!r} has no {attribute!r}{f': did you mean {hint!r}?' if hint else '.'}"
        )
    if not inspect.isclass(cls):
        raise UsageError(f"strategy {name!r}: {attribute!r} is {type(cls).__name__}, and a class is expected.")
    return cls


def _options(name: str, cls: Any) -> tuple[Option, ...]:
    found = getattr(cls, "OPTIONS", None) or getattr(sys.modules[cls.__module__], "OPTIONS", ())
    if not isinstance(found, tuple | list) or not all(isinstance(option, Option) for option in found):
        raise UsageError(f"strategy {name!r}: OPTIONS is expected to be a tuple of kernelgrove.strategies.Option.")
    return tuple(found)


def _check_propose(name: str, strategy: Any) -> None:
    propose = getattr(strategy, "propose", None)
    if propose is None:
        raise UsageError(f"strategy {name!r} has no method propose: expected {_EXPECTED}.")
    if not callable(propose):
        raise UsageError(f"strategy {name!r}: propose is {type(propose).__name__}: expected {_EXPECTED}.")
    try:
        signature = inspect.signature(propose)
    except (TypeError, ValueError):
        return  # written in C: nothing to look at
    try:
        signature.bind(object(), 1, object())
    except TypeError as error:
        raise UsageError(
            f"strategy {name!r}: propose{signature} will not do ({error}): expected {_EXPECTED}."
        ) from error
    if inspect.iscoroutinefunction(propose) or inspect.isgeneratorfunction(propose):
        kind = "a coroutine" if inspect.iscoroutinefunction(propose) else "a generator"
        raise UsageError(f"strategy {name!r}: propose is {kind}: expected {_EXPECTED}.")
