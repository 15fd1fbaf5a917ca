"""From a request to a prompt: which template, what it is given, and what is left out where it would be too long.

A prompt has three pieces. *system* and *shared* (target, practices, example, reference) are the same, byte for byte,
for every request of a search, whatever its kind, so that a provider's prompt cache finds them again; *specific* is
what this request is about. The task therefore comes last, behind what it refers to.

Where a prompt is over its budget, history goes first, oldest first, then what is older in the lineage, then the parts
that help least. Code and error text are never cut out. What went is said in the prompt and in ``Prompt.dropped``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from kernelgrove.engine import answers
from kernelgrove.engine.gpus import specs
from kernelgrove.engine.money.tokens import estimate
from kernelgrove.model import Backend, JobKind, Outcome
from kernelgrove.ports import ProposalRequest

from . import target
from .parts import Parts

if TYPE_CHECKING:
    from jinja2 import Environment

_REFINED = str(Outcome.OK)

#: A reference in which matrix products may occur; advice on them is left out of the prompts of others.
_PRODUCTS = re.compile(
    r"\b(?:Linear|\w*[Cc]onv\w*|matmul|bmm|mm|addmm|baddbmm|einsum|\w*[Aa]ttention\w*|LSTM|GRU)\b|(?<=[\w\])])\s*@"
)


@dataclass(frozen=True)
class Prompt:
    """*tokens* is estimated; *dropped* says in words what was left out."""

    purpose: str
    system: str
    shared: str
    specific: str
    tokens: int
    dropped: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it as one text, for a reader that takes one."""
        return "\n\n".join(piece for piece in (self.system, self.shared, self.specific) if piece)


def purpose(request: ProposalRequest) -> str:
    """The template of *request*: what it asks for follows from its kind and from what is there to build on."""
    if request.kind is JobKind.IDEATE:
        return "ideate"
    if request.kind is JobKind.RATE:
        return "rate"
    if request.kind is JobKind.REPAIR:
        passed = request.failed is not None and request.failed.outcome == _REFINED
        return "refine" if passed else "repair"
    if request.idea is not None:
        return "implement"
    return "zero_shot" if request.base is None else "refine"


def build(request: ProposalRequest) -> Prompt:
    """The prompt of *request*, within its budget where that can be. Raises UsageError for an unknown target."""
    parts = Parts.of(request.options)
    prompt = _render(request, parts, ())
    if prompt.tokens <= parts.tokens:
        return prompt
    if request.kind is not JobKind.RATE and "history" in parts and request.tried:
        prompt, request = _with_less_history(request, parts)
        if prompt.tokens <= parts.tokens:
            return prompt
    for smaller, fewer, dropped in _shorter(request, parts, prompt.dropped):
        prompt = _render(smaller, fewer, dropped)
        if prompt.tokens <= parts.tokens:
            return prompt
    over = f"the prompt is {prompt.tokens - parts.tokens} tokens over its budget; the rest cannot be left out"
    return replace(prompt, dropped=(*prompt.dropped, over))


def _with_less_history(request: ProposalRequest, parts: Parts) -> tuple[Prompt, ProposalRequest]:
    """The prompt without as many of the oldest ideas tried as must go, which may be all; and its request."""

    def without(gone: int) -> Prompt:
        dropped = f"the {gone} oldest of {len(request.tried)} ideas tried"
        return _render(replace(request, tried=request.tried[gone:]), parts, (dropped,))

    low, high = 1, len(request.tried)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if without(middle).tokens <= parts.tokens else (middle + 1, high)
    return without(low), replace(request, tried=request.tried[low:])


def _shorter(
    request: ProposalRequest, parts: Parts, dropped: tuple[str, ...]
) -> Iterator[tuple[ProposalRequest, Parts, tuple[str, ...]]]:
    """Requests that say less and less, each with what it leaves out."""
    if len(request.lineage) > 2:
        dropped += (f"the first {len(request.lineage) - 2} ideas of the lineage",)
        request = replace(request, lineage=request.lineage[-2:])
        yield request, parts, dropped
    for part in ("example", "concepts", "profile", "practices"):
        if part in parts:
            parts = parts.without(part)
            dropped += (f"the part {part!r}",)
            yield request, parts, dropped
    for count in range(len(request.others) - 1, -1, -1):
        shown = f"{len(request.others) - count} of the {len(request.others)} further implementations"
        yield replace(request, others=request.others[:count]), parts, (*dropped, shown)


def _render(request: ProposalRequest, parts: Parts, dropped: tuple[str, ...]) -> Prompt:
    given: dict[str, Any] = {
        "request": request,
        "parts": parts,
        "dropped": dropped,
        "contract": answers.contract(request),
        "gpu": specs.find(request.target),
        "advice": target.advice(specs.find(request.target)),
        "precision": str(request.options.get("precision") or "default"),
        "require": str(request.options.get("require") or ""),
        "cuda": request.backend == Backend.CUDA,
        "triton": request.backend not in (Backend.CUDA, Backend.TORCH),
        "hip": specs.find(request.target).backend == "hip",
        "products": _PRODUCTS.search(request.instance.source) is not None,
    }
    which = purpose(request)
    system, shared = _piece("system", given), _piece("shared", given)
    specific = _piece(which, given)
    text = "\n\n".join((system, shared, specific))
    return Prompt(which, system, shared, specific, estimate(text), dropped)


def _piece(template: str, given: Mapping[str, Any]) -> str:
    text = _environment().get_template(f"{template}.j2").render(given)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    kept = [line for i, line in enumerate(lines) if line or lines[i - 1]]
    return "\n".join(kept)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from . import words

    environment = Environment(
        loader=PackageLoader("kernelgrove.engine.prompts", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(example=words.example)
    return environment
