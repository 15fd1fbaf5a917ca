"""Where a provider is reached and with which key: ``providers.toml``, then ``[providers.NAME]`` of the user's own.

A key is read from the environment or a file when a client is made. It is held in one object that prints as ``***``,
and never written anywhere: not to the database, not to a log, not to a worker.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kernelgrove.errors import EnvironmentLacks, UsageError

from .limits import Limits

KINDS = ("openai", "openai-compatible", "google", "anthropic")
STRUCTURED = ("json_schema", "json_object", "none")

#: Addresses by name on the command line go this way: ``openai-compatible:MODEL@URL``.
BASE_URL_VARIABLE = "OPENAI_COMPATIBLE_BASE_URL"


class Key:
    """A secret that does not print."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def hide(self, text: str) -> str:
        """*text* without the key: a server may repeat what it was sent."""
        return text.replace(self._value, "[key]") if self._value else text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a key is not pickled")


@dataclass(frozen=True)
class Settings:
    """One provider, ready to be called. Times in seconds."""

    name: str
    kind: str
    base_url: str | None
    key: Key
    key_from: str
    structured: str
    stream: bool
    free: bool
    timeout_s: float
    deadline_s: float
    limits: Limits = field(default_factory=Limits)

    @property
    def account(self) -> str:
        return f"{self.name}@{self.base_url or ''}"


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "kind": str,
    "base_url": str,
    "key_env": (list, str),
    "key_file": str,
    "key_needed": bool,
    "structured": str,
    "stream": bool,
    "free": bool,
    "concurrency": int,
    "tokens_per_minute": int,
    "requests_per_minute": int,
    "timeout_s": (int, float),
    "deadline_s": (int, float),
}


def names(own: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Every provider that is reached over HTTP."""
    return tuple(dict.fromkeys((*_shipped(), *(own or {}))))


def check(own: Any) -> dict[str, dict[str, Any]]:
    """The ``providers`` table of a configuration, each entry checked. Raises UsageError, which shows no value that may
    be a key."""
    if not isinstance(own, Mapping) or not all(isinstance(table, Mapping) for table in own.values()):
        raise UsageError("providers is not a table of tables.", "Write [providers.NAME].")
    for name, table in own.items():
        for key, value in table.items():
            where = f"[providers.{name}]"
            if key in ("key", "api_key", "token", "secret"):
                raise UsageError(f"{where} holds a key.", "Name a variable (key_env) or a file (key_file) that does.")
            wanted = _TYPES.get(key)
            if wanted is None:
                raise UsageError(f"{where} has an unknown setting {key!r}.", f"There are: {', '.join(_TYPES)}.")
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                raise UsageError(f"{where} has {key} = {value!r}.", "See providers.toml for its type and unit.")
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise UsageError(f"{where} has {key} = {value!r}.", "It must be above zero.")
        kind = table.get("kind", _shipped().get(name, {}).get("kind"))
        if kind not in KINDS:
            raise UsageError(f"[providers.{name}] does not say its kind.", f"It is one of {', '.join(KINDS)}.")
        if table.get("structured", "none") not in STRUCTURED:
            raise UsageError(f"[providers.{name}] has an unknown structured.", f"It is one of {', '.join(STRUCTURED)}.")
    return {str(name): dict(table) for name, table in own.items()}


def settings(name: str, own: Mapping[str, Any] | None = None, base_url: str | None = None) -> Settings:
    """The provider *name*, the user's tables over what ships, *base_url* over both.

    Raises EnvironmentLacks where its key is not there, UsageError for an address that is missing.
    """
    table = {**_shipped().get(name, {}), **(own or {}).get(name, {})}
    if not table:
        raise UsageError(f"There is no provider {name!r}.", f"There are: {', '.join(names(own))}.")
    kind = str(table.get("kind", "openai-compatible"))
    address = base_url or table.get("base_url")
    if kind == "openai-compatible" and not address:
        address = os.environ.get(BASE_URL_VARIABLE)
        if not address:
            raise UsageError(
                f"--model {name}:… does not say where the server is.",
                f"Write {name}:MODEL@http://HOST:PORT/v1, or set {BASE_URL_VARIABLE}.",
            )
    if address and "@" in str(address).partition("://")[2].partition("/")[0]:
        raise UsageError(
            f"The address of {name} holds a name and password.", "Give a key in the environment or a file instead."
        )
    key, key_from = _key(name, table)
    return Settings(
        name=name,
        kind=kind,
        base_url=address,
        key=key,
        key_from=key_from,
        structured=str(table.get("structured", "none")),
        stream=bool(table.get("stream", True)),
        free=bool(table.get("free", False)),
        timeout_s=float(table.get("timeout_s", 600.0)),
        deadline_s=float(table.get("deadline_s", 1800.0)),
        limits=Limits(
            int(table.get("concurrency", 8)), table.get("tokens_per_minute"), table.get("requests_per_minute")
        ),
    )


def _key(name: str, table: Mapping[str, Any]) -> tuple[Key, str]:
    """The key and where it was found. One that is not needed may be absent."""
    variables = table.get("key_env", [])
    variables = [variables] if isinstance(variables, str) else list(variables)
    if "key_file" in table:
        return Key(_from_file(Path(str(table["key_file"])).expanduser(), name)), str(table["key_file"])
    for variable in variables:
        if os.environ.get(variable, "").strip():
            return Key(os.environ[variable].strip()), variable
        if os.environ.get(f"{variable}_FILE", "").strip():
            path = Path(os.environ[f"{variable}_FILE"].strip()).expanduser()
            return Key(_from_file(path, name)), str(path)
    if table.get("key_needed", True):
        told = " or ".join(variables) or f"key_env or key_file of [providers.{name}]"
        raise EnvironmentLacks(
            f"There is no key for {name}: {told} is not set.",
            f"Export it, or name a file that holds it in {told}_FILE.",
        )
    return Key(""), "no key"


def _from_file(path: Path, name: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EnvironmentLacks(f"The key of {name} cannot be read from {path}: {reason}.", "Check the path.") from error
    if not text:
        raise EnvironmentLacks(f"The key file {path} of {name} is empty.", "Write the key into it.")
    return text


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = resources.files(__package__).joinpath("providers.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
