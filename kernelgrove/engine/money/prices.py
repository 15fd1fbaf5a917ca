"""Prices of models, from ``prices.toml`` and the user's own file, and what a call's usage costs by them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kernelgrove.engine.own_file import own_file, own_tables
from kernelgrove.errors import UsageError
from kernelgrove.model import Usage

#: Names a file of prices of the user's own.
VARIABLE = "KERNELGROVE_PRICES"
OWN_FILE = Path("~/.config/kernelgrove/prices.toml")

_MILLION = 1_000_000

#: The end of a name that only tells one snapshot of a model from another.
_SNAPSHOT = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens; see ``prices.toml``. ``max_output`` is in tokens."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    long_from: int | None = None
    long_input: float | None = None
    long_output: float | None = None
    long_cached_input: float | None = None
    long_cache_write: float | None = None
    max_output: int | None = None
    source: str = ""
    date: str = ""

    def cost(self, usage: Usage) -> float:
        """Dollars for *usage*, whose cached and reasoning tokens are among its input and output tokens."""
        if self.long_from is not None and usage.input_tokens >= self.long_from:
            return self._long().cost(usage)
        cached = min(usage.cached_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - cached)
        fresh = usage.input_tokens - cached - written
        dollars = fresh * self.input + usage.output_tokens * self.output
        dollars += cached * (self.input if self.cached_input is None else self.cached_input)
        dollars += written * (self.input if self.cache_write is None else self.cache_write)
        return dollars / _MILLION

    def at_most(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars for so many tokens, were each input token billed at the dearest rate there is for one."""
        price = self._long() if self.long_from is not None and input_tokens >= self.long_from else self
        dearest = max(price.input, price.cache_write or 0.0)
        return (input_tokens * dearest + output_tokens * price.output) / _MILLION

    def _long(self) -> Price:
        return replace(
            self,
            input=self.long_input or self.input,
            output=self.long_output or self.output,
            cached_input=self.cached_input if self.long_cached_input is None else self.long_cached_input,
            cache_write=self.cache_write if self.long_cache_write is None else self.long_cache_write,
            long_from=None,
        )


def find(model: str) -> Price | None:
    """The price of ``provider:model``; a dated snapshot has its model's, no other name is guessed. None: unknown."""
    prices = load()
    return prices.get(model) or prices.get(_SNAPSHOT.sub("", model))


def load(own: Path | None = None) -> dict[str, Price]:
    """All prices by ``provider:model``; *own* is the user's file (by default where the environment or the user's
    configuration says). Raises UsageError naming what is wrong in it."""
    prices = dict(_shipped())
    path = own or own_file(VARIABLE, OWN_FILE)
    if path is None:
        return prices
    example = 'Write one a model, as ["openai:gpt-5"].'
    for name, table in own_tables(path, "price", example).items():
        known = prices.get(name)
        base: dict[str, Any] = {k: v for k, v in asdict(known).items() if v is not None} if known else {}
        prices[name] = _price(name, {**base, "source": str(path), **table}, str(path))
    return prices


@cache
def _shipped() -> dict[str, Price]:
    text = resources.files(__package__).joinpath("prices.toml").read_text(encoding="utf-8")
    return {name: _price(name, table, "prices.toml") for name, table in tomllib.loads(text).items()}


_KEYS = {field.name: field for field in fields(Price)}
_TEXT = {"source", "date"}


def _price(name: str, table: Mapping[str, Any], where: str) -> Price:
    if unknown := sorted(set(table) - set(_KEYS)):
        raise UsageError(
            f"{where}: the price of {name} has an unknown key {unknown[0]!r}.", f"Keys: {', '.join(_KEYS)}."
        )
    if missing := [key for key in ("input", "output") if key not in table]:
        raise UsageError(f"{where}: the price of {name} lacks {missing[0]}.", "In dollars for a million tokens.")
    for key, value in table.items():
        if key in _TEXT:
            good = isinstance(value, str)
        else:
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
        if not good:
            raise UsageError(f"{where}: the price of {name} has {key} = {value!r}.", "A number from 0, in dollars.")
    return Price(**table)
