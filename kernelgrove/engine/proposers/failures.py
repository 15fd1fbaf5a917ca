"""How one try at a call may fail, whether it is worth another, and what it cost.

==============  =======  ===========================================  ==============================
kind            again    when                                         charged
==============  =======  ===========================================  ==============================
rate_limit      yes      429, and the provider's own words for it     nothing
overloaded      yes      529, 503, "overloaded"                       nothing
server          yes      other 5xx                                    nothing; 504: the reservation
timeout         yes      no byte in time, or past the deadline        the reservation
connection      yes      refused; or cut off half-way                 nothing; half-way: the reservation
empty           twice    an answer without a word                     what the provider counted
cut             once     it ended at the output limit                 what the provider counted
contract        once     it breaks the contract; the reason is fed    what the provider counted
                         back
refused         no       a refusal, a content filter                  what the provider counted
context         no       the prompt does not fit the model            nothing
bad_request     no       any other 4xx                                nothing
auth, quota,    no; the  the key, the account or the model's name is  nothing
no_model        search   wrong: no call can succeed
                stops
==============  =======  ===========================================  ==============================
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from kernelgrove.errors import ProposerError
from kernelgrove.ports import Feedback, Proposal


class Failure(StrEnum):
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    EMPTY = "empty"
    CUT = "cut"
    CONTRACT = "contract"
    REFUSED = "refused"
    CONTEXT = "context"
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    QUOTA = "quota"
    NO_MODEL = "no_model"


#: The provider may do better in a moment.
TRANSIENT = frozenset({Failure.RATE_LIMIT, Failure.OVERLOADED, Failure.SERVER, Failure.TIMEOUT, Failure.CONNECTION})

#: The model may do better when asked again: how often at most, within the limit on tries.
ASK_AGAIN: Mapping[Failure, int] = {Failure.EMPTY: 2, Failure.CUT: 1, Failure.CONTRACT: 1}

#: No call of this proposer can succeed until a person has acted.
UNUSABLE = frozenset({Failure.AUTH, Failure.QUOTA, Failure.NO_MODEL})


class CallFailed(ProposerError):
    """One try at a paid call failed.

    *in_doubt*: it may have been billed, and nobody said for how much. *retry_after_s*: what the provider asked for.
    *proposal* holds the raw texts, and the usage where it is known; *feedback* goes with the request when it is asked
    again.
    """

    def __init__(
        self,
        kind: Failure,
        cause: str,
        cure: str = "",
        *,
        in_doubt: bool = False,
        retry_after_s: float | None = None,
        proposal: Proposal | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        super().__init__(cause, cure, retry=kind in TRANSIENT)
        self.kind = kind
        self.in_doubt = in_doubt
        self.retry_after_s = retry_after_s
        self.proposal = proposal
        self.feedback = feedback


_CONTEXT_WORDS = (
    "context_length",
    "context length",
    "context window",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "exceeds the maximum number of tokens",
    "too many tokens",
    "input token count",
    "reduce the length",
)
_QUOTA_WORDS = (
    "insufficient_quota",
    "exceeded your current quota, please check your plan",
    "billing",
    "credit balance",
)
_OVERLOAD_WORDS = ("overloaded", "at capacity", "unavailable")
_KEY_WORDS = ("api key not valid", "api_key_invalid", "invalid api key", "invalid x-api-key", "incorrect api key")
_MODEL_WORDS = ("model_not_found", "does not exist", "not found for api version", "is not found", "unknown model")


def kind_of(status: int, code: str, message: str) -> Failure:
    """What an HTTP error means. *code* is the provider's own name for it (``insufficient_quota``), *message* its
    words; both help where one status stands for several things."""
    words = f"{code} {message}".casefold()

    def says(phrases: tuple[str, ...]) -> bool:
        return any(phrase in words for phrase in phrases)

    if status in (401, 403) or (status == 400 and says(_KEY_WORDS)):
        return Failure.AUTH
    if status == 402 or (status in (400, 429) and says(_QUOTA_WORDS)):
        return Failure.QUOTA
    if status == 413 or (status in (400, 422) and says(_CONTEXT_WORDS)):
        return Failure.CONTEXT
    if status == 404 or (status == 400 and says(_MODEL_WORDS)):
        return Failure.NO_MODEL
    if status in (409, 425, 429):
        return Failure.RATE_LIMIT
    if status == 408:
        return Failure.TIMEOUT
    if status in (503, 529) or (status >= 500 and says(_OVERLOAD_WORDS)):
        return Failure.OVERLOADED
    if status >= 500:
        return Failure.SERVER
    return Failure.BAD_REQUEST


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to be left alone: ``retry-after-ms``, or ``retry-after`` in seconds or as a date
    (RFC 9110, section 10.2.3); None where it says nothing that can be read."""
    from email.utils import parsedate_to_datetime

    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        try:
            return max(0.0, float(milliseconds) / 1000)
        except ValueError:
            pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        from datetime import UTC, datetime

        at = parsedate_to_datetime(value)
        return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
