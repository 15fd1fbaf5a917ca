"""OpenAI's Responses API, streamed. Nothing is stored at the provider; the SDK's own retries are off."""

from __future__ import annotations

from typing import Any

from kernelgrove.model import Usage, digest

from .sdk import in_stream, timeouts, translate
from .settings import Settings
from .wire import Deadline, Finish, Question, Reply, Wire, dump


class OpenAIClient:
    """One model by its name. Temperature, effort and output limit go where given; the API takes no seed."""

    def __init__(self, model: str, settings: Settings) -> None:
        import openai

        self._sdk = openai
        self._model = model
        self._settings = settings
        self._wire = Wire(f"{settings.name}:{model}", settings.key_from)
        self._client: Any = openai.OpenAI(
            api_key=settings.key.reveal(),
            base_url=settings.base_url,
            max_retries=0,
            timeout=timeouts(settings),
        )

    def send(self, question: Question) -> Reply:
        body = self._body(question)
        request = dump(body)
        pieces: list[str] = []
        try:
            final = self._stream(body, pieces)
            if final is None:
                raise ConnectionError("the stream ended before the answer did")
            if final.status == "failed":
                error = final.error
                failed = {"code": error.code, "message": error.message} if error is not None else {}
                raise in_stream(self._wire, failed, "the response failed", request)
            return self._reply(final, request)
        except Exception as error:
            failure = translate(self._sdk, self._wire, error, request, "".join(pieces), self._settings)
            if failure is None:
                raise
            raise failure from error

    def _body(self, question: Question) -> dict[str, Any]:
        parts = [part for part in (question.shared, question.specific) if part]
        body: dict[str, Any] = {
            "model": self._model,
            "instructions": question.system,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": part} for part in parts]},
                *({"role": turn.role, "content": turn.text} for turn in question.turns),
            ],
            "max_output_tokens": question.max_output_tokens,
            "store": False,
            "prompt_cache_key": digest(question.system + question.shared)[:32],
        }
        if question.temperature is not None:
            body["temperature"] = question.temperature
        if question.effort is not None:
            body["reasoning"] = {"effort": question.effort}
        if question.schema is not None and self._settings.structured == "json_schema":
            form = {"type": "json_schema", "name": question.schema_name, "schema": question.schema, "strict": True}
            body["text"] = {"format": form}
        return body

    def _stream(self, body: dict[str, Any], pieces: list[str]) -> Any:
        """The response as it stood at the end of the stream; None where the stream ended before that."""
        deadline = Deadline(self._settings.deadline_s)
        with self._client.responses.create(**body, stream=True) as events:
            for event in deadline.over(events):
                if event.type == "response.output_text.delta":
                    pieces.append(event.delta)
                elif event.type in ("response.completed", "response.incomplete", "response.failed"):
                    return event.response
                elif event.type == "error":
                    raise in_stream(
                        self._wire, {"code": event.code, "message": event.message}, event.message, dump(body)
                    )
        return None

    def _reply(self, response: Any, request: str) -> Reply:
        text, refusal = [], []
        for item in response.output:
            for part in getattr(item, "content", None) or []:
                if part.type == "output_text":
                    text.append(part.text)
                elif part.type == "refusal":
                    refusal.append(part.refusal)
        finish, said = Finish.DONE, " ".join(refusal)
        if refusal:
            finish = Finish.REFUSED
        elif response.status == "incomplete":
            reason = response.incomplete_details.reason if response.incomplete_details else None
            finish = Finish.REFUSED if reason == "content_filter" else Finish.LENGTH
            said = reason or ""
        return Reply("".join(text), _usage(response.usage), finish, request, response.model_dump_json(), said)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    inputs = usage.input_tokens_details
    outputs = usage.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=None,
        cached_tokens=getattr(inputs, "cached_tokens", 0) or 0,
        cache_write_tokens=getattr(inputs, "cache_write_tokens", 0) or 0,
        reasoning_tokens=getattr(outputs, "reasoning_tokens", 0) or 0,
    )
