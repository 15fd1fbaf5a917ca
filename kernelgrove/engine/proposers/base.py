"""Proposers by name: ``provider:model`` to a Proposer. Nothing is imported before it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kernelgrove.errors import UsageError
from kernelgrove.ports import Proposer

#: Makes a proposer from what follows the colon ("" where nothing does) and the run's options.
Factory = Callable[[str, Mapping[str, Any]], Proposer]


def _rules(model: str, options: Mapping[str, Any]) -> Proposer:
    from .rules.proposer import RulesProposer

    if model:
        raise UsageError(f"The proposer rules takes no model, but --model rules:{model} names one.", "Write rules.")
    return RulesProposer()


def _recorded(model: str, options: Mapping[str, Any]) -> Proposer:
    from .recorded import RecordedProposer

    if not model:
        raise UsageError("The proposer recorded needs a file.", "Write recorded:PATH, a grove or a JSONL file.")
    return RecordedProposer(model)


def _queue(model: str, options: Mapping[str, Any]) -> Proposer:
    from .queue import QueueProposer

    if model:
        raise UsageError(f"The proposer queue takes no model, but --model queue:{model} names one.", "Write queue.")
    return QueueProposer()


def _command(model: str, options: Mapping[str, Any]) -> Proposer:
    from kernelgrove.engine import money

    from .command import CommandClient
    from .language import LanguageModel
    from .limits import Limits, shared

    name = f"command:{model}"
    return LanguageModel(name, CommandClient(model), shared(name, Limits()), options, price=money.find(name))


#: Providers that are not reached over HTTP, and how each is written on the command line.
PROVIDERS: dict[str, tuple[str, Factory]] = {
    "rules": ("rules", _rules),
    "recorded": ("recorded:FILE", _recorded),
    "queue": ("queue", _queue),
    "command": ("command:CMD", _command),
}


@dataclass(frozen=True)
class Wanted:
    """One ``--model`` as typed, taken apart. *weight* is its share among several."""

    spec: str
    weight: float = 1.0


_WEIGHT = re.compile(r"^(?P<spec>.*?)=(?P<weight>\d+(?:\.\d+)?|\.\d+)$")
_WEIGHT_BEHIND_A_BLANK = re.compile(r"^(?P<spec>.*\S)\s+=(?P<weight>\d+(?:\.\d+)?|\.\d+)$")


def weighted(text: str) -> Wanted:
    """``openai:gpt-5=2`` is openai:gpt-5 with weight 2. A command may itself end in ``=2``, so its weight stands behind
    a blank: ``command:ask --tries=2 =3``. Raises UsageError for a weight of zero."""
    text = text.strip()
    match = (_WEIGHT_BEHIND_A_BLANK if text.startswith("command:") else _WEIGHT).match(text)
    if match is None:
        return Wanted(text)
    weight = float(match["weight"])
    if weight <= 0:
        raise UsageError(f"--model {text} has no weight.", "Leave the model out, or write a number above zero.")
    return Wanted(match["spec"].strip(), weight)


def make(spec: str, options: Mapping[str, Any] | None = None) -> Proposer:
    """The proposer that *spec* (``provider:model``, no weight) names.

    Raises UsageError for a provider that is not there (listing those that are), a model that it does not take, or
    a file that it cannot read; EnvironmentLacks where its key or its package is missing.
    """
    provider, _, model = spec.strip().partition(":")
    provider = provider.strip().lower()
    options = options or {}
    entry = PROVIDERS.get(provider)
    if entry is not None:
        return entry[1](model.strip(), options)
    from . import settings

    if provider not in settings.names(options.get("providers")):
        raise UsageError(f"There is no proposer {provider!r} (in --model {spec}).", f"There is: {known(options)}.")
    return _language_model(provider, model.strip(), options)


def known(options: Mapping[str, Any] | None = None) -> str:
    """Every provider as it is written, for messages and help."""
    from . import settings

    written = [text for text, _ in PROVIDERS.values()]
    names = settings.names((options or {}).get("providers"))
    return ", ".join([*written, *(f"{n}:MODEL{'@URL' if n == 'openai-compatible' else ''}" for n in names)])


def _language_model(provider: str, text: str, options: Mapping[str, Any]) -> Proposer:
    from kernelgrove.engine import money

    from . import settings
    from .language import LanguageModel
    from .limits import shared

    model, _, address = text.partition("@")
    if address and not re.match(r"https?://", address):
        model, address = text, ""  # a name may hold an @
    if not model:
        raise UsageError(f"--model {provider}: names no model.", f"Write {provider}:MODEL.")
    found = settings.settings(provider, options.get("providers"), address or None)
    name = f"{provider}:{model}"
    return LanguageModel(
        name,
        _client(found, model),
        shared(found.account, found.limits),
        options,
        key=found.key,
        price=money.find(name),
        free=found.free,
    )


def _client(found: Any, model: str) -> Any:
    if found.kind == "openai":
        from .openai import OpenAIClient

        return OpenAIClient(model, found)
    if found.kind == "google":
        from .google import GoogleClient

        return GoogleClient(model, found)
    if found.kind == "anthropic":
        from .anthropic import AnthropicClient

        return AnthropicClient(model, found)
    from .compatible import CompatibleClient

    return CompatibleClient(model, found)
