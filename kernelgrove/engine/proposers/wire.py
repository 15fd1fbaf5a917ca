"""What a language model's client is given and gives back: one question, one reply, one try.

A client is one file: it knows a provider's SDK, and nothing of prompts, contracts, money or trying again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from kernelgrove.model import Usage
from kernelgrove.ports import Proposal

from .failures import CallFailed, Failure, kind_of, retry_after

Event = TypeVar("Event")


class Finish(StrEnum):
    """How a reply ended."""

    DONE = "done"
    LENGTH = "length"
    REFUSED = "refused"


@dataclass(frozen=True)
class Turn:
    """A message after the prompt: the model's own earlier answer, or what was wrong with it."""

    role: str  # "assistant", "user"
    text: str


@dataclass(frozen=True)
class Question:
    """*shared* and *specific* are one prompt: the first part is the same for every question of a search, so that a
    provider's prompt cache finds it again. What is None is left to the provider's default."""

    system: str
    shared: str
    specific: str
    turns: tuple[Turn, ...] = ()
    schema: Mapping[str, Any] | None = None
    schema_name: str = ""
    max_output_tokens: int = 32_768
    temperature: float | None = None
    effort: str | None = None
    seed: int | None = None

    @property
    def prompt(self) -> str:
        return f"{self.shared}\n\n{self.specific}" if self.shared else self.specific


@dataclass(frozen=True)
class Reply:
    """*usage* is without cost, None where the provider did not say. Raw texts are JSON as it was sent and, put together
    from its pieces where it came in pieces, as it was received."""

    text: str
    usage: Usage | None
    finish: Finish
    request: str
    response: str
    said: str = ""  # why it was refused, in the provider's words


class Client(Protocol):
    """Thread-safe. Raises CallFailed with the raw texts of both sides in its proposal."""

    def send(self, question: Question) -> Reply: ...


def dump(value: Any) -> str:
    """JSON for the ledger; what JSON has no word for is written as text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def raw(request: str, response: str = "", usage: Usage | None = None, failure: Failure | None = None) -> Proposal:
    """What the ledger keeps of a call that gave no answer."""
    return Proposal(
        usage=usage or Usage(),
        request_text=request,
        response_text=response,
        failure=str(failure) if failure is not None else "",
    )


@dataclass(frozen=True)
class Wire:
    """Says what went wrong, in one provider's name. *key_from* names where its key is read."""

    name: str
    key_from: str

    def status(self, status: int, code: str, message: str, headers: Mapping[str, str], request: str) -> CallFailed:
        """An HTTP error response."""
        kind = kind_of(status, code, message)
        words = " ".join(message.split())[:500]
        cause = f"{self.name}: HTTP {status}{f' {code}' if code else ''}: {words or 'no message'}"
        return CallFailed(
            kind,
            cause if cause.endswith((".", "!", "?")) else f"{cause}.",
            self.cure(kind),
            in_doubt=status in (408, 504, 524),
            retry_after_s=retry_after(headers),
            proposal=raw(request, dump({"status": status, "code": code, "message": message}), failure=kind),
        )

    def cure(self, kind: Failure) -> str:
        cures = {
            Failure.AUTH: f"Check the key in {self.key_from}.",
            Failure.QUOTA: "Add credit to the account, or name another --model.",
            Failure.NO_MODEL: "Check the model's name.",
            Failure.CONTEXT: "Lower --prompt-tokens, or name a model with a larger context.",
        }
        return cures.get(kind, "")

    def timeout(self, request: str, after_s: float, partial: str = "", *, sent: bool = True) -> CallFailed:
        """*sent* is False where no connection came about in time: nothing was asked, nothing is owed."""
        what = f"did not finish within {after_s:.0f} s" if sent else f"could not be reached within {after_s:.0f} s"
        return CallFailed(
            Failure.TIMEOUT,
            f"{self.name} {what}.",
            in_doubt=sent,
            proposal=raw(request, partial, failure=Failure.TIMEOUT),
        )

    def lost(self, request: str, error: BaseException, partial: str = "", *, sent: bool = True) -> CallFailed:
        """*sent* is False where no connection came about, so that nothing was asked and nothing is owed."""
        words = " ".join(str(error).split()) or type(error).__name__
        what = "broke off" if sent else "could not be reached"
        return CallFailed(
            Failure.CONNECTION,
            f"{self.name} {what}: {words[:300]}.",
            in_doubt=sent,
            proposal=raw(request, partial, failure=Failure.CONNECTION),
        )

    def garbled(self, request: str, error: BaseException, partial: str = "") -> CallFailed:
        """A response that is no JSON, or not of the form that the provider documents."""
        words = " ".join(str(error).split()) or type(error).__name__
        return CallFailed(
            Failure.SERVER,
            f"{self.name} sent something that cannot be read: {words[:300]}.",
            in_doubt=True,
            proposal=raw(request, partial, failure=Failure.SERVER),
        )


class Deadline:
    """Bounds a whole call: an SDK's own timeout is for the gap between two bytes, and a slow trickle never ends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.01, self._end - time.monotonic())

    def over(self, events: Iterable[Event]) -> Iterator[Event]:
        """*events*, as long as there is time. Raises TimeoutError."""
        for event in events:
            if time.monotonic() > self._end:
                raise TimeoutError
            yield event
