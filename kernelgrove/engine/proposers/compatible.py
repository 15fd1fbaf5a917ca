"""Chat Completions, the protocol that most other servers speak: DeepSeek, OpenRouter, vLLM, Ollama and such.

What servers differ in is taken as it comes: reasoning in a field of its own or inside ``<think>``, cached tokens under
one of two names, usage in the last piece or nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kernelgrove.model import Usage

from .sdk import in_stream, timeouts, translate
from .settings import Settings
from .wire import Deadline, Finish, Question, Reply, Wire, dump


@dataclass
class _Answer:
    """What has come so far; ``finish`` is None while the answer has not ended."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: Any = None
    facts: dict[str, Any] = field(default_factory=dict)

    def take(self, message: Any) -> None:
        if message is None:
            return
        self.content.append(message.content or "")
        self.reasoning.append(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or "")
        self.refusal.append(getattr(message, "refusal", None) or "")

    def dump(self) -> str:
        found = {
            **self.facts,
            "content": "".join(self.content),
            "reasoning": "".join(self.reasoning),
            "refusal": "".join(self.refusal),
            "finish_reason": self.finish,
            "usage": self.usage.model_dump() if self.usage is not None else None,
        }
        return dump({name: value for name, value in found.items() if value not in (None, "")})


class CompatibleClient:
    """One model at one address. Temperature, effort, seed and output limit go where given."""

    def __init__(self, model: str, settings: Settings) -> None:
        import openai

        self._sdk = openai
        self._model = model
        self._settings = settings
        self._wire = Wire(f"{settings.name}:{model}", settings.key_from)
        self._client: Any = openai.OpenAI(
            api_key=settings.key.reveal() or "none",
            base_url=settings.base_url,
            max_retries=0,
            timeout=timeouts(settings),
        )

    def send(self, question: Question) -> Reply:
        body = self._body(question)
        request = dump(body)
        answer = _Answer()
        try:
            if self._settings.stream:
                self._stream(body, answer)
            else:
                self._whole(body, answer)
            if answer.finish is None:
                raise ConnectionError("the stream ended before the answer did")
            if answer.finish in ("error", "insufficient_system_resource"):
                raise in_stream(
                    self._wire, {"code": "overloaded_error"}, f"the server stopped: {answer.finish}", request
                )
        except Exception as error:
            failure = translate(self._sdk, self._wire, error, request, answer.dump(), self._settings)
            if failure is None:
                raise
            raise failure from error
        return _reply(answer, request)

    def _body(self, question: Question) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.prompt},
                *({"role": turn.role, "content": turn.text} for turn in question.turns),
            ],
            "max_tokens": question.max_output_tokens,
        }
        if question.temperature is not None:
            body["temperature"] = question.temperature
        if question.seed is not None:
            body["seed"] = question.seed
        if question.effort is not None:
            body["reasoning_effort"] = question.effort
        if question.schema is not None and self._settings.structured == "json_schema":
            form = {"name": question.schema_name, "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif question.schema is not None and self._settings.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _stream(self, body: dict[str, Any], answer: _Answer) -> None:
        deadline = Deadline(self._settings.deadline_s)
        options = {"include_usage": True}
        with self._client.chat.completions.create(**body, stream=True, stream_options=options) as events:
            for chunk in deadline.over(events):
                answer.facts.setdefault("id", chunk.id)
                answer.facts.setdefault("model", chunk.model)
                if chunk.usage is not None:
                    answer.usage = chunk.usage
                for choice in chunk.choices or []:
                    answer.take(choice.delta)
                    answer.finish = choice.finish_reason or answer.finish

    def _whole(self, body: dict[str, Any], answer: _Answer) -> None:
        response = self._client.chat.completions.create(**body, timeout=self._settings.deadline_s)
        answer.facts = {"id": response.id, "model": response.model}
        answer.usage = response.usage
        choice = response.choices[0]
        answer.take(choice.message)
        answer.finish = choice.finish_reason or "stop"


def _reply(answer: _Answer, request: str) -> Reply:
    finish, said = Finish.DONE, "".join(answer.refusal)
    if answer.finish == "length":
        finish = Finish.LENGTH
    elif answer.finish == "content_filter" or said:
        finish = Finish.REFUSED
    return Reply("".join(answer.content), _usage(answer.usage), finish, request, answer.dump(), said)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    inputs = usage.prompt_tokens_details
    outputs = usage.completion_tokens_details
    cached = getattr(inputs, "cached_tokens", None) or getattr(usage, "prompt_cache_hit_tokens", None) or 0
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cost_usd=None,
        cached_tokens=cached,
        cache_write_tokens=getattr(inputs, "cache_write_tokens", None) or 0,
        reasoning_tokens=getattr(outputs, "reasoning_tokens", None) or 0,
    )
