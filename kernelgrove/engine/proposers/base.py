"""Proposers by name: ``provider:model`` to a Proposer. Nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


#: Every provider there is, and how its name is written on the command line.
PROVIDERS: dict[str, tuple[str, Factory]] = {
    "rules": ("rules", _rules),
    "recorded": ("recorded:FILE", _recorded),
}


def make(spec: str, options: Mapping[str, Any] | None = None) -> Proposer:
    """The proposer that *spec* (``provider:model``) names.

    Raises UsageError for a provider that is not there (listing those that are), a model that it does not take, or
    a file that it cannot read.
    """
    provider, _, model = spec.strip().partition(":")
    entry = PROVIDERS.get(provider.lower())
    if entry is None:
        known = ", ".join(written for written, _ in PROVIDERS.values())
        raise UsageError(f"There is no proposer {provider!r} (in --model {spec}).", f"There is: {known}.")
    return entry[1](model.strip(), options or {})
