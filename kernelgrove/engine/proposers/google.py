"""Google's Gemini API through google-genai, streamed. That SDK tries again only where it is told to, and it is not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kernelgrove.model import Usage

from .failures import CallFailed
from .sdk import CONNECT_S
from .settings import Settings
from .wire import Deadline, Finish, Question, Reply, Wire, dump

#: Reasons to stop that say that the content, not the length, was the matter.
_REFUSALS = frozenset("SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE MODEL_ARMOR ESCALATION".split())

#: Thinking budgets, in tokens, of the models before those that take a level.
_BUDGETS: Mapping[str, int] = {
    "none": 0,
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
_LEVELS: Mapping[str, str] = {"none": "MINIMAL", "max": "XHIGH"}


class GoogleClient:
    """One model by its name. Temperature, effort, seed and output limit go where given."""

    def __init__(self, model: str, settings: Settings) -> None:
        from google import genai
        from google.genai import errors, types

        self._errors, self._types = errors, types
        self._model = model
        self._settings = settings
        self._wire = Wire(f"{settings.name}:{model}", settings.key_from)
        self._client: Any = genai.Client(
            api_key=settings.key.reveal(),
            vertexai=False,
            http_options=types.HttpOptions(base_url=settings.base_url, timeout=int(settings.timeout_s * 1000)),
        )

    def send(self, question: Question) -> Reply:
        contents, config = self._contents(question), self._config(question)
        request = dump({"model": self._model, "contents": contents, "config": config})
        found: dict[str, Any] = {"text": [], "thoughts": [], "usage": None, "finish": None, "blocked": None}
        try:
            deadline = Deadline(self._settings.deadline_s)
            events = self._client.models.generate_content_stream(
                model=self._model, contents=contents, config=self._types.GenerateContentConfig(**config)
            )
            for chunk in deadline.over(events):
                _take(chunk, found)
            if found["finish"] is None and found["blocked"] is None:
                raise ConnectionError("the stream ended before the answer did")
        except Exception as error:
            failure = self._translate(error, request, _raw(found))
            if failure is None:
                raise
            raise failure from error
        finish, said = Finish.DONE, found["blocked"] or found["finish"]
        if found["blocked"] is not None or found["finish"] in _REFUSALS:
            finish = Finish.REFUSED
        elif found["finish"] == "MAX_TOKENS":
            finish = Finish.LENGTH
        return Reply("".join(found["text"]), _usage(found["usage"]), finish, request, _raw(found), str(said))

    def _contents(self, question: Question) -> list[dict[str, Any]]:
        parts = [{"text": part} for part in (question.shared, question.specific) if part]
        roles = {"assistant": "model", "user": "user"}
        return [
            {"role": "user", "parts": parts},
            *({"role": roles[turn.role], "parts": [{"text": turn.text}]} for turn in question.turns),
        ]

    def _config(self, question: Question) -> dict[str, Any]:
        config: dict[str, Any] = {
            "system_instruction": question.system,
            "max_output_tokens": question.max_output_tokens,
        }
        if question.temperature is not None:
            config["temperature"] = question.temperature
        if question.seed is not None:
            config["seed"] = question.seed % 2**31
        if question.effort is not None:
            by_budget = re.search(r"gemini-(?:1|2)\.", self._model) is not None
            config["thinking_config"] = (
                {"thinking_budget": _BUDGETS.get(question.effort, -1)}
                if by_budget
                else {"thinking_level": _LEVELS.get(question.effort, question.effort.upper())}
            )
        if question.schema is not None and self._settings.structured == "json_schema":
            config["response_mime_type"] = "application/json"
            config["response_json_schema"] = question.schema
        return config

    def _translate(self, error: Exception, request: str, partial: str) -> CallFailed | None:
        import httpx2

        if isinstance(error, CallFailed):
            return error
        if isinstance(error, self._errors.APIError):
            return self._api_error(error, request, begun=bool(partial and '"model"' in partial))
        sent = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        if isinstance(error, httpx2.TimeoutException | TimeoutError):
            waited = self._settings.deadline_s if isinstance(error, TimeoutError) else self._settings.timeout_s
            return self._wire.timeout(request, waited if sent else min(CONNECT_S, waited), partial, sent=sent)
        if isinstance(error, httpx2.HTTPError | httpx2.StreamError | OSError):
            return self._wire.lost(request, error, partial, sent=sent)
        if isinstance(error, ValueError | TypeError | AttributeError | KeyError | IndexError):
            return self._wire.garbled(request, error, partial)
        return None

    def _api_error(self, error: Any, request: str, *, begun: bool) -> CallFailed:
        headers = dict(getattr(error.response, "headers", None) or {})
        details = error.details if isinstance(error.details, Mapping) else {}
        delay = _retry_delay(details)
        if delay is not None:
            headers.setdefault("retry-after", str(delay))
        failed = self._wire.status(
            int(error.code or 500), str(error.status or ""), str(error.message or ""), headers, request
        )
        failed.in_doubt = failed.in_doubt or begun
        return failed


def _retry_delay(details: Mapping[str, Any]) -> float | None:
    """Seconds in a ``google.rpc.RetryInfo`` among the details of an error."""
    inner = details.get("error", details)
    entries = inner.get("details", []) if isinstance(inner, Mapping) else []
    for entry in entries if isinstance(entries, list) else []:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(entry.get("retryDelay", ""))) if isinstance(entry, dict) else None
        if match is not None:
            return float(match[1])
    return None


def _take(chunk: Any, found: dict[str, Any]) -> None:
    found["model"] = chunk.model_version
    if chunk.usage_metadata is not None:
        found["usage"] = chunk.usage_metadata
    if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
        found["blocked"] = _name(chunk.prompt_feedback.block_reason)
    for candidate in (chunk.candidates or [])[:1]:
        for part in (candidate.content.parts if candidate.content is not None else None) or []:
            if part.text:
                found["thoughts" if part.thought else "text"].append(part.text)
        if candidate.finish_reason is not None:
            found["finish"] = _name(candidate.finish_reason)


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))


def _raw(found: dict[str, Any]) -> str:
    usage = found["usage"]
    return dump(
        {
            **found,
            "text": "".join(found["text"]),
            "thoughts": "".join(found["thoughts"]),
            "usage": None if usage is None else usage.model_dump(exclude_none=True, mode="json"),
        }
    )


def _usage(usage: Any) -> Usage | None:
    """Thoughts are counted apart from the candidates' tokens, and billed as output."""
    if usage is None:
        return None
    thoughts = usage.thoughts_token_count or 0
    return Usage(
        input_tokens=(usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
        output_tokens=(usage.candidates_token_count or 0) + thoughts,
        cost_usd=None,
        cached_tokens=usage.cached_content_token_count or 0,
        reasoning_tokens=thoughts,
    )
