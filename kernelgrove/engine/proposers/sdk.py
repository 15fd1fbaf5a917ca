"""What the SDKs of OpenAI and Anthropic have in common: one generator wrote both, and their errors are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .failures import CallFailed
from .settings import Settings
from .wire import Wire

#: Seconds to connect; the rest of a call may take long, this must not.
CONNECT_S = 20.0


def timeouts(settings: Settings) -> Any:
    """Bounds for connecting and for the gap between two bytes; the whole call is bounded by ``Deadline``."""
    import httpx2

    return httpx2.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s), pool=settings.timeout_s)


def translate(
    sdk: Any, wire: Wire, error: Exception, request: str, partial: str, settings: Settings
) -> CallFailed | None:
    """*error*, raised by *sdk* or under it while a call was made, as what happened. None for one that is our own."""
    import httpx2

    if isinstance(error, CallFailed):
        return error
    if isinstance(error, sdk.APIStatusError):
        return _status(wire, error, request, partial)
    below = error.__cause__ if isinstance(error, sdk.APIConnectionError) else error
    sent = not isinstance(below, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError)
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        waited = settings.deadline_s if isinstance(error, TimeoutError) else settings.timeout_s
        return wire.timeout(request, waited if sent else min(CONNECT_S, waited), partial, sent=sent)
    if isinstance(error, sdk.APIConnectionError | httpx2.HTTPError | httpx2.StreamError | OSError):
        return wire.lost(request, below or error, partial, sent=sent)
    if isinstance(error, sdk.APIError):  # an error in the middle of a stream
        body = error.body if isinstance(error.body, Mapping) else {}
        return in_stream(wire, body, str(error.message), request)
    if isinstance(error, ValueError | TypeError | AttributeError | KeyError | IndexError):
        return wire.garbled(request, error, partial)
    return None


def in_stream(wire: Wire, body: Mapping[str, Any], message: str, request: str) -> CallFailed:
    """An error that a provider sent after it had begun to answer: part of the answer may be billed."""
    code = str(body.get("code") or body.get("type") or "")
    words = str(body.get("message") or message)
    status = {"overloaded_error": 529, "rate_limit_exceeded": 429, "rate_limit_error": 429}.get(code, 500)
    failed = wire.status(status, code, words, {}, request)
    failed.in_doubt = True
    return failed


def _status(wire: Wire, error: Any, request: str, partial: str) -> CallFailed:
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    fields = inner if isinstance(inner, Mapping) else body
    code = str(fields.get("code") or fields.get("type") or "")
    message = str(fields.get("message") or (error.body if isinstance(error.body, str) else "") or error.message)
    if error.status_code < 400:  # told inside of a stream that began well
        return in_stream(wire, fields, message, request)
    return wire.status(error.status_code, code, message, error.response.headers, request)
