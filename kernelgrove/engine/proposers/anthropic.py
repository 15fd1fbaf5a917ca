"""Anthropic's Messages API, streamed. The prompt's shared part is marked for its cache; the SDK's retries are off."""

from __future__ import annotations

from typing import Any

from kernelgrove.errors import EnvironmentLacks
from kernelgrove.model import Usage

from .sdk import timeouts, translate
from .settings import Settings
from .wire import Deadline, Finish, Question, Reply, Wire, dump


class AnthropicClient:
    """One model by its name. Temperature, effort and output limit go where given; the API takes no seed."""

    def __init__(self, model: str, settings: Settings) -> None:
        try:
            import anthropic
        except ImportError as error:
            raise EnvironmentLacks(
                "The package anthropic is not installed.", "Install it with `pip install 'kernelgrove[anthropic]'`."
            ) from error
        self._sdk = anthropic
        self._model = model
        self._settings = settings
        self._wire = Wire(f"{settings.name}:{model}", settings.key_from)
        self._client: Any = anthropic.Anthropic(
            api_key=settings.key.reveal(),
            base_url=settings.base_url,
            max_retries=0,
            timeout=timeouts(settings),
        )

    def send(self, question: Question) -> Reply:
        body = self._body(question)
        request = dump(body)
        found: dict[str, Any] = {"text": [], "thinking": [], "usage": {}, "stop_reason": None}
        try:
            self._stream(body, found)
            if found["stop_reason"] is None:
                raise ConnectionError("the stream ended before the answer did")
        except Exception as error:
            failure = translate(self._sdk, self._wire, error, request, _raw(found), self._settings)
            if failure is None:
                raise
            raise failure from error
        reason = found["stop_reason"]
        finish = Finish.DONE
        if reason in ("max_tokens", "model_context_window_exceeded"):
            finish = Finish.LENGTH
        elif reason == "refusal":
            finish = Finish.REFUSED
        return Reply("".join(found["text"]), _usage(found["usage"]), finish, request, _raw(found), str(reason))

    def _body(self, question: Question) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        if question.shared:
            parts.append({"type": "text", "text": question.shared, "cache_control": {"type": "ephemeral"}})
        parts.append({"type": "text", "text": question.specific})
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": question.max_output_tokens,
            "system": question.system,
            "messages": [
                {"role": "user", "content": parts},
                *({"role": turn.role, "content": turn.text} for turn in question.turns),
            ],
        }
        if question.temperature is not None:
            # Older models only: the SDK has no argument for it any more. This API's scale ends at 1.
            body["extra_body"] = {"temperature": min(1.0, question.temperature)}
        config: dict[str, Any] = {}
        if question.effort is not None:
            config["effort"] = question.effort
        if question.schema is not None and self._settings.structured == "json_schema":
            config["format"] = {"type": "json_schema", "schema": question.schema}
        if config:
            body["output_config"] = config
        return body

    def _stream(self, body: dict[str, Any], found: dict[str, Any]) -> None:
        deadline = Deadline(self._settings.deadline_s)
        with self._client.messages.create(**body, stream=True) as events:
            for event in deadline.over(events):
                if event.type == "message_start":
                    found["id"], found["model"] = event.message.id, event.message.model
                    found["usage"].update(_given(event.message.usage))
                elif event.type == "content_block_delta":
                    if event.delta.type == "text_delta":
                        found["text"].append(event.delta.text)
                    elif event.delta.type == "thinking_delta":
                        found["thinking"].append(event.delta.thinking)
                elif event.type == "message_delta":
                    found["stop_reason"] = event.delta.stop_reason or found["stop_reason"]
                    found["usage"].update(_given(event.usage))


def _given(usage: Any) -> dict[str, Any]:
    """Counts are cumulative: a later one replaces an earlier one, an absent one nothing."""
    return {name: value for name, value in usage.model_dump().items() if value is not None}


def _raw(found: dict[str, Any]) -> str:
    return dump({**found, "text": "".join(found["text"]), "thinking": "".join(found["thinking"])})


def _usage(counts: dict[str, Any]) -> Usage | None:
    """``input_tokens`` leaves out what was read from the cache or written to it; ours counts all of them."""
    if "input_tokens" not in counts:
        return None
    read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    return Usage(
        input_tokens=counts["input_tokens"] + read + written,
        output_tokens=counts.get("output_tokens", 0),
        cost_usd=None,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=(counts.get("output_tokens_details") or {}).get("thinking_tokens", 0),
    )
