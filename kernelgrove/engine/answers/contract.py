"""What is asked of each kind of answer: in words for prompts, as a schema for providers that take one, and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernelgrove.model import JobKind
from kernelgrove.ports import Proposal, ProposalRequest

from .code import NAME, program
from .ideas import CATEGORIES, ideas
from .problems import Unreadable
from .ratings import ratings

__all__ = ["Contract", "Unreadable", "contract", "read"]


@dataclass(frozen=True)
class Contract:
    """*words* say what an answer must be; *schema* is the JSON schema of one that is an object, else None."""

    words: str
    schema: Mapping[str, Any] | None = None
    name: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For ``tasks next --json``."""
        found: dict[str, Any] = {"answer": "json" if self.schema else "python", "words": self.words, **self.details}
        if self.schema is not None:
            found["schema"] = self.schema
        return found


def contract(request: ProposalRequest) -> Contract:
    """What an answer to *request* must be."""
    if request.kind is JobKind.IDEATE:
        many = f"exactly {request.count} ideas" if request.count > 1 else "one idea"
        return Contract(
            f'One JSON object {{"ideas": [{{"text": …, "rationale": …, "category": …}}]}} with {many}, and nothing '
            f"else. category is one of {', '.join(CATEGORIES)}.",
            _IDEAS,
            "ideas",
            {"count": request.count},
        )
    if request.kind is JobKind.RATE:
        return Contract(
            f'One JSON object {{"ratings": [numbers]}} with exactly {len(request.tried)} numbers from 0 to 10, in the '
            "order of the ideas, and nothing else.",
            _RATINGS,
            "ratings",
            {"count": len(request.tried)},
        )
    return Contract(
        f"One fenced block of Python (```python) with a whole program that defines class {NAME}, and nothing that "
        "matters outside of it.",
        None,
        "",
        {"class": NAME},
    )


def read(request: ProposalRequest, answer: str) -> Proposal:
    """*answer* as a Proposal without usage and raw texts. Raises Unreadable where it breaks the contract."""
    if request.kind is JobKind.IDEATE:
        found, note = ideas(answer, request.count)
        return Proposal(ideas=found, note=note)
    if request.kind is JobKind.RATE:
        return Proposal(ratings=ratings(answer, len(request.tried)))
    return Proposal(code=program(answer))


_IDEAS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "ideas": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "The optimisation in one or two sentences."},
                    "rationale": {"type": "string", "description": "Why it should be faster here, with numbers."},
                    "category": {"type": "string", "enum": list(CATEGORIES)},
                },
                "required": ["text", "rationale", "category"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["ideas"],
    "additionalProperties": False,
}
_RATINGS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"ratings": {"type": "array", "items": {"type": "number"}}},
    "required": ["ratings"],
    "additionalProperties": False,
}
