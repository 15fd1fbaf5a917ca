"""The parts of a prompt that can be switched, and its budget: ``--part example=on``, ``--prompt-tokens 20000``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernelgrove.errors import UsageError

#: part -> (on by default, what it is)
PARTS: Mapping[str, tuple[bool, str]] = {
    "gpu": (True, "facts of the target GPU and what its architecture wants"),
    "concepts": (True, "what limits a kernel, in a dozen lines"),
    "practices": (True, "what to do and what the compiler refuses"),
    "example": (False, "a worked example: a small module and its kernel"),
    "profile": (True, "what the evaluator saw: registers, shared memory, what bounds each launch"),
    "history": (True, "ideas already tried and what they gave"),
}

#: Tokens of a whole prompt; see ``build`` for what is left out first.
DEFAULT_TOKENS = 48_000

_YES = {"on": True, "yes": True, "true": True, "1": True}
_NO = {"off": False, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Parts:
    """Which parts a prompt has, and how many tokens (estimated) it may be."""

    on: frozenset[str]
    tokens: int = DEFAULT_TOKENS

    @staticmethod
    def of(options: Mapping[str, Any]) -> Parts:
        """From a search's options: ``parts`` (name: on) over the defaults, and ``prompt_tokens``."""
        wanted = {name: default for name, (default, _) in PARTS.items()} | dict(options.get("parts") or {})
        return Parts(
            frozenset(name for name, on in wanted.items() if on), int(options.get("prompt_tokens") or DEFAULT_TOKENS)
        )

    def __contains__(self, part: str) -> bool:
        return part in self.on

    def without(self, part: str) -> Parts:
        return Parts(self.on - {part}, self.tokens)


def read(given: Mapping[str, Any]) -> dict[str, bool]:
    """*given* (``{"example": "on"}``) checked. Raises UsageError naming the part and what would do."""
    found: dict[str, bool] = {}
    for name, value in given.items():
        if name not in PARTS:
            near = difflib.get_close_matches(name, PARTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"A prompt has no part {name!r}.{hint}", f"There are: {', '.join(PARTS)}.")
        word = str(value).strip().casefold()
        if word not in _YES and word not in _NO:
            raise UsageError(f"--part {name}={value} is neither on nor off.", f"Write --part {name}=on.")
        found[name] = word in _YES
    return found
