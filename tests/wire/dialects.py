"""The wire formats of four providers, as their API references describe them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fake_server import Asked, Broken, Say, Status


def _sse(data: Any, event: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def _pieces(text: str, size: int = 40) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


class Responses:
    """OpenAI, ``POST /responses``."""

    name = "openai"

    def asked(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        assert path.endswith("/responses"), path
        parts = [part["text"] for part in body["input"][0]["content"]]
        later = [turn["content"] for turn in body["input"][1:]]
        return Asked(
            model=body["model"],
            prompt="\n".join([body["instructions"], *parts, *later]),
            turns=len(later),
            max_tokens=body.get("max_output_tokens"),
            schema="format" in body.get("text", {}),
            stream=bool(body.get("stream")),
            body=body,
            headers=headers,
        )

    def error(self, step: Status) -> dict[str, Any]:
        return {"error": {"message": step.message, "type": "error", "param": None, "code": step.code or None}}

    def events(self, asked: Asked, say: Say) -> Iterator[bytes]:
        begun = {**self._response(asked, say), "status": "in_progress", "output": [], "usage": None}
        yield _sse({"type": "response.created", "sequence_number": 0, "response": begun}, "response.created")
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
        number = 0
        for number, piece in enumerate(_pieces(say.text), 1):
            event = {"type": "response.output_text.delta", "sequence_number": number, "delta": piece, **place}
            yield _sse(event, "response.output_text.delta")
        end = "response.incomplete" if say.finish in ("length", "filter") else "response.completed"
        yield _sse({"type": end, "sequence_number": number + 1, "response": self._response(asked, say)}, end)

    def _response(self, asked: Asked, say: Say) -> dict[str, Any]:
        content: dict[str, Any] = {"type": "output_text", "text": say.text, "annotations": [], "logprobs": []}
        if say.finish == "refusal":
            content = {"type": "refusal", "refusal": say.text}
        reasons = {"length": "max_output_tokens", "filter": "content_filter"}
        usage = {
            "input_tokens": say.input_tokens,
            "input_tokens_details": {"cached_tokens": say.cached, "cache_write_tokens": say.cache_write},
            "output_tokens": say.output_tokens,
            "output_tokens_details": {"reasoning_tokens": say.reasoning},
            "total_tokens": say.input_tokens + say.output_tokens,
        }
        message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [content]}
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if say.finish in reasons else "completed",
            "error": None,
            "incomplete_details": {"reason": reasons[say.finish]} if say.finish in reasons else None,
            "instructions": None,
            "metadata": {},
            "model": asked.model,
            "output": [{"type": "reasoning", "id": "rs_1", "summary": []}, message],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": usage if say.usage else None,
        }

    def whole(self, asked: Asked, say: Say) -> dict[str, Any]:
        return self._response(asked, say)

    def broken(self, step: Broken) -> bytes:
        code = "rate_limit_exceeded" if "rate" in step.code else "server_error"
        event = {"type": "error", "sequence_number": 9, "code": code, "message": step.message, "param": None}
        return _sse(event, "error")

    def garbled(self) -> bytes:
        return _sse('{"type": "response.output_text.delta", "delta": "tru', "response.output_text.delta")


class Chat:
    """Chat Completions, as DeepSeek, vLLM and others speak it."""

    name = "openai-compatible"

    def __init__(self, reasoning_field: str = "reasoning_content") -> None:
        self.reasoning_field = reasoning_field

    def asked(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        assert path.endswith("/chat/completions"), path
        return Asked(
            model=body["model"],
            prompt="\n".join(message["content"] for message in body["messages"]),
            turns=len(body["messages"]) - 2,
            max_tokens=body.get("max_tokens"),
            schema="response_format" in body,
            stream=bool(body.get("stream")),
            body=body,
            headers=headers,
        )

    def error(self, step: Status) -> dict[str, Any]:
        return {"error": {"message": step.message, "type": "error", "param": None, "code": step.code or None}}

    def events(self, asked: Asked, say: Say) -> Iterator[bytes]:
        yield self._chunk(asked, {"role": "assistant", "content": ""})
        for piece in _pieces(say.thoughts):
            yield self._chunk(asked, {self.reasoning_field: piece, "content": None})
        for piece in _pieces(say.text):
            yield self._chunk(asked, {"content": piece})
        yield self._chunk(asked, {}, self._finish(say))
        if say.usage:
            last = {**self._head(asked, "chat.completion.chunk"), "choices": [], "usage": self._usage(say)}
            yield _sse(last)
        yield b"data: [DONE]\n\n"

    def _head(self, asked: Asked, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked.model}

    def _chunk(self, asked: Asked, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse({**self._head(asked, "chat.completion.chunk"), "choices": [choice], "usage": None})

    def _finish(self, say: Say) -> str:
        return {"filter": "content_filter", "refusal": "content_filter"}.get(say.finish, say.finish)

    def _usage(self, say: Say) -> dict[str, Any]:
        return {
            "prompt_tokens": say.input_tokens,
            "completion_tokens": say.output_tokens,
            "total_tokens": say.input_tokens + say.output_tokens,
            "prompt_tokens_details": {"cached_tokens": say.cached},
            "completion_tokens_details": {"reasoning_tokens": say.reasoning},
        }

    def whole(self, asked: Asked, say: Say) -> dict[str, Any]:
        message = {"role": "assistant", "content": say.text, self.reasoning_field: say.thoughts or None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(say)}
        document = {**self._head(asked, "chat.completion"), "choices": [choice]}
        return {**document, "usage": self._usage(say)} if say.usage else document

    def broken(self, step: Broken) -> bytes:
        return _sse({"error": {"message": step.message, "type": step.code, "code": step.code}})

    def garbled(self) -> bytes:
        return _sse('{"id": "chatcmpl-1", "choices": [{"delta": {"cont')


class Gemini:
    """Google, ``POST /v1beta/models/M:streamGenerateContent?alt=sse``."""

    name = "google"

    def asked(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        assert ":streamGenerateContent" in path, path
        config = body.get("generationConfig", {})
        system = [part["text"] for part in body["systemInstruction"]["parts"]]
        texts = [part["text"] for content in body["contents"] for part in content["parts"]]
        return Asked(
            model=path.split("/models/")[1].split(":")[0],
            prompt="\n".join([*system, *texts]),
            turns=len(body["contents"]) - 1,
            max_tokens=config.get("maxOutputTokens"),
            schema="responseJsonSchema" in config,
            stream=True,
            body=body,
            headers=headers,
        )

    def error(self, step: Status) -> dict[str, Any]:
        words = {
            401: "UNAUTHENTICATED",
            400: "INVALID_ARGUMENT",
            429: "RESOURCE_EXHAUSTED",
            500: "INTERNAL",
            504: "DEADLINE_EXCEEDED",
        }
        status = step.code or words.get(step.status, "UNAVAILABLE")
        return {"error": {"code": step.status, "message": step.message, "status": status, "details": []}}

    def events(self, asked: Asked, say: Say) -> Iterator[bytes]:
        if say.finish == "filter":
            blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": asked.model}
            yield _sse({**blocked, **self._usage(say)})
            return
        for piece in _pieces(say.thoughts):
            yield self._chunk(asked, [{"text": piece, "thought": True}])
        for piece in _pieces(say.text) or [""]:
            yield self._chunk(asked, [{"text": piece}])
        finish = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}[say.finish]
        yield self._chunk(asked, [{"text": ""}], finish, self._usage(say))

    def _chunk(
        self, asked: Asked, parts: list[Any], finish: str | None = None, more: dict[str, Any] | None = None
    ) -> bytes:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return _sse({"candidates": [candidate], "modelVersion": asked.model, "responseId": "r1", **(more or {})})

    def _usage(self, say: Say) -> dict[str, Any]:
        if not say.usage:
            return {}
        counts = {
            "promptTokenCount": say.input_tokens,
            "cachedContentTokenCount": say.cached,
            "candidatesTokenCount": say.output_tokens - say.reasoning,
            "thoughtsTokenCount": say.reasoning,
            "totalTokenCount": say.input_tokens + say.output_tokens,
        }
        return {"usageMetadata": counts}

    def whole(self, asked: Asked, say: Say) -> dict[str, Any]:
        raise AssertionError("this client streams")

    def broken(self, step: Broken) -> bytes:
        return _sse({"error": {"code": 503, "message": step.message, "status": "UNAVAILABLE"}})

    def garbled(self) -> bytes:
        return _sse('{"candidates": [{"content": {"par')


class Messages:
    """Anthropic, ``POST /v1/messages``."""

    name = "anthropic"

    def asked(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        assert path.endswith("/v1/messages"), path
        parts = [part["text"] for part in body["messages"][0]["content"]]
        later = [turn["content"] for turn in body["messages"][1:]]
        return Asked(
            model=body["model"],
            prompt="\n".join([body["system"], *parts, *later]),
            turns=len(later),
            max_tokens=body["max_tokens"],
            schema="format" in body.get("output_config", {}),
            stream=bool(body.get("stream")),
            body=body,
            headers=headers,
        )

    def error(self, step: Status) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error", 500: "api_error"}
        kind = step.code or kinds.get(step.status, "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": step.message}}

    def events(self, asked: Asked, say: Say) -> Iterator[bytes]:
        usage = {
            "input_tokens": say.input_tokens - say.cached - say.cache_write,
            "cache_read_input_tokens": say.cached,
            "cache_creation_input_tokens": say.cache_write,
            "output_tokens": 1,
        }
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield _sse({"type": "message_start", "message": message}, "message_start")
        start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield _sse(start, "content_block_start")
        yield _sse({"type": "ping"}, "ping")
        for piece in _pieces(say.text):
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            yield _sse(delta, "content_block_delta")
        yield _sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
        reasons = {"stop": "end_turn", "length": "max_tokens", "filter": "refusal", "refusal": "refusal"}
        details = {"output_tokens_details": {"thinking_tokens": say.reasoning}} if say.reasoning else {}
        last = {
            "type": "message_delta",
            "delta": {"stop_reason": reasons[say.finish], "stop_sequence": None},
            "usage": {"output_tokens": say.output_tokens, **details},
        }
        yield _sse(last, "message_delta")
        yield _sse({"type": "message_stop"}, "message_stop")

    def whole(self, asked: Asked, say: Say) -> dict[str, Any]:
        raise AssertionError("this client streams")

    def broken(self, step: Broken) -> bytes:
        return _sse({"type": "error", "error": {"type": step.code, "message": step.message}}, "error")

    def garbled(self) -> bytes:
        return _sse('{"type": "content_block_delta", "delta": {"type": "text_d', "content_block_delta")


DIALECTS = (Responses(), Chat(), Gemini(), Messages())
