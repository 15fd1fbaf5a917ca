"""A strategy's options: names, defaults, how a value is read, and what is said of one that will not do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

#: Reads a value as typed or parsed; raises ValueError with what would do ("a whole number from 1").
Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """One option. *aliases* are other spellings that mean the same (``width`` for ``widths``)."""

    name: str
    default: Any
    read: Reader
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The default as one would type it."""
        if isinstance(self.default, bool):
            return "true" if self.default else "false"
        if isinstance(self.default, tuple):
            return ",".join(str(v) for v in self.default)
        return str(self.default)


def nearest(word: str, words: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else None


def read(strategy: str, options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options by name: *given* over the defaults. Raises UsageError naming the option and what would do."""
    spelled = {alias: option for option in options for alias in (option.name, *option.aliases)}
    values = {option.name: option.default for option in options}
    seen: dict[str, str] = {}
    for key, value in given.items():
        option = spelled.get(key.replace("-", "_"))
        if option is None:
            hint = nearest(key.replace("-", "_"), spelled)
            raise UsageError(
                f"strategy {strategy!r} has no option {key!r}{f': did you mean {hint!r}?' if hint else '.'}",
                f"There are: {', '.join(o.name for o in options)}" if options else "It has none.",
            )
        if option.name in seen:
            raise UsageError(f"{seen[option.name]} and {key} are the same option of strategy {strategy!r}: give one.")
        seen[option.name] = key
        try:
            values[option.name] = option.read(value)
        except ValueError as error:
            raise UsageError(f"{option.name}={_typed(value)} of strategy {strategy!r} must be {error}.") from None
    return values


def names_of(options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """*given* under the names that *options* have. All of them are known."""
    spelled = {alias: option.name for option in options for alias in (option.name, *option.aliases)}
    return {spelled[key.replace("-", "_")]: value for key, value in given.items()}


def _typed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(v) for v in value)
    return str(value)


def whole(least: int, most: int = 1_000_000) -> Reader:
    """A whole number from *least* to *most*."""

    def reader(value: Any) -> int:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = int(value.strip()) if isinstance(value, str) else int(value)
            if number != (number if isinstance(value, str) else value) or not least <= number <= most:
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"a whole number from {least}") from None
        return number

    return reader


def wholes(least: int) -> Reader:
    """A list of whole numbers: ``3,4,4,5``, or one number for all."""
    one = whole(least)

    def reader(value: Any) -> tuple[int, ...]:
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        try:
            if not parts:
                raise ValueError
            return tuple(one(part) for part in parts)
        except ValueError:
            raise ValueError(f"whole numbers from {least}, such as 3,4,4,5") from None

    return reader


def at(values: Sequence[int], round_: int) -> int:
    """The value for round 1, 2, …; the last one holds for all further rounds."""
    return values[min(round_, len(values)) - 1]


def lists_match_rounds(
    strategy: str, values: dict[str, Any], given: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """*values* with ``rounds`` as many as a list that was *given* is for (the baseline's round has no number).

    Raises UsageError for a list of another length than the rounds that were given, or than another list.
    """
    told = "rounds" in given
    for name in names:
        numbers = values[name]
        if name not in given or len(numbers) == 1:
            continue
        after = values["rounds"] - 1
        if not told:
            told, values = True, {**values, "rounds": len(numbers) + 1}
        elif len(numbers) != after:
            raise UsageError(
                f"{name}={_typed(numbers)} of strategy {strategy!r}: {len(numbers)} numbers, and {after} round"
                f"{'' if after == 1 else 's'} after the baseline's (rounds={values['rounds']}).",
                "Give one number for each, or one for all.",
            )
    return values


def number_above(least: float) -> Reader:
    """A finite number above *least*."""

    def reader(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            if not math.isfinite(number) or number <= least:
                raise ValueError
        except (ValueError, TypeError):
            raise ValueError(f"a number above {least:g}") from None
        return number

    return reader


def number_from(least: float) -> Reader:
    """A finite number from *least*."""

    def reader(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            if not math.isfinite(number) or number < least:
                raise ValueError
        except (ValueError, TypeError):
            raise ValueError(f"a number from {least:g}") from None
        return number

    return reader


def one_of(*words: str) -> Reader:
    """One of these words."""

    def reader(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return word

    return reader


def share(value: Any) -> float:
    """A number from 0 to 1."""
    try:
        number = float(value)
        if isinstance(value, bool) or not 0 <= number <= 1:
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError("a number from 0 to 1") from None
    return number


def yes_no(value: Any) -> bool:
    """``true``/``false`` in the spellings people use."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    word = str(value).strip().lower()
    if word not in words:
        raise ValueError("true or false")
    return words[word]
