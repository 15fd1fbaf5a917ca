"""Each provider's client, with its real SDK, against a server that speaks its protocol: what goes out, what comes back,
and what every failure becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import CANARY, always, environment, good_answer, proposer
from dialects import DIALECTS, Chat
from fake_server import Broken, Dialect, FakeServer, Garbled, Reset, Say, Slow, Status, Step, serving

from kernelgrove.engine.proposers.failures import CallFailed, Failure
from kernelgrove.model import Idea, Instance, JobKind
from kernelgrove.ports import Feedback, ProposalRequest
from kernelgrove.problems.problem import load, sized_source

PROBLEM = load("softmax")
SOURCE = sized_source(PROBLEM, "full")
INSTANCE = Instance(PROBLEM.name, PROBLEM.digest, "full", SOURCE, "full", SOURCE)
IDEATE = ProposalRequest(JobKind.IDEATE, "ideate:r:-:0", PROBLEM, INSTANCE, "H100", "triton", 7, count=3)
IMPLEMENT = ProposalRequest(
    JobKind.IMPLEMENT, "implement:r.0:0", PROBLEM, INSTANCE, "H100", "triton", 7, idea=Idea("Use tiles")
)
OK = Say("```python\nclass ModelNew:\n    pass\n```", 1000, 400, cached=600, reasoning=100)


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dialect]:
    environment(monkeypatch, tmp_path)
    yield request.param


def ask(server: FakeServer, request: ProposalRequest = IMPLEMENT, more: Any = None, **settings: Any) -> Any:
    return proposer(server, more, **settings).propose(request)


def failure(dialect: Dialect, step: Step, **settings: Any) -> tuple[CallFailed, FakeServer]:
    with serving(dialect, always(step)) as server, pytest.raises(CallFailed) as caught:
        ask(server, **settings)
    assert len(server.received) == 1, "one try is one request: the SDK's own retries are off"
    return caught.value, server


# ------------------------------------------------------------------------------------------------- success


def test_a_program_with_its_usage_and_its_price(dialect: Dialect) -> None:
    with serving(dialect, always(OK)) as server:
        answer = ask(server)
    assert answer.code == "class ModelNew:\n    pass\n"
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) == (
        *(1000, 400, 600, 100),
    )
    assert usage.cost_usd == pytest.approx((400 * 2.0 + 600 * 0.2 + 400 * 10.0) / 1e6) and not usage.estimated
    (asked,) = server.received
    assert asked.stream and asked.max_tokens == 4000 and asked.turns == 0 and "Use tiles" in asked.prompt


def test_tokens_written_to_the_cache_cost_what_they_do(dialect: Dialect) -> None:
    if dialect.name not in ("openai", "anthropic"):
        pytest.skip("this provider bills no writes to its cache")
    with serving(dialect, always(replace(OK, cached=100, cache_write=500))) as server:
        usage = ask(server).usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (1000, 100, 500)
    assert usage.cost_usd == pytest.approx((400 * 2.0 + 100 * 0.2 + 500 * 2.5 + 400 * 10.0) / 1e6)


def test_ideas_are_asked_for_as_structured_output(dialect: Dialect) -> None:
    with serving(dialect, good_answer) as server:
        answer = ask(server, IDEATE, structured="json_schema")
    assert server.received[0].schema
    assert [idea.category for idea in answer.ideas] == ["tiling"] * 3


def test_settings_go_where_the_provider_has_them(dialect: Dialect) -> None:
    more = {"temperature": 0.7, "effort": "high", "max_output_tokens": 1234}
    with serving(dialect, always(OK)) as server:
        ask(server, more=more)
    body = server.received[0].body
    assert server.received[0].max_tokens == 1234
    if dialect.name == "google":
        config = body["generationConfig"]
        assert config["temperature"] == 0.7 and config["seed"] == 7
        assert list(config["thinkingConfig"].values()) == ["HIGH"]
    else:
        assert body["temperature"] == 0.7
        effort = {
            "openai": lambda: body["reasoning"]["effort"],
            "openai-compatible": lambda: body["reasoning_effort"],
            "anthropic": lambda: body["output_config"]["effort"],
        }
        assert effort[dialect.name]() == "high"
        assert body.get("seed") == (7 if dialect.name == "openai-compatible" else None)


def test_what_is_not_set_is_not_sent(dialect: Dialect) -> None:
    """Models that reason refuse a temperature: the default must be the provider's own."""
    with serving(dialect, always(OK)) as server:
        ask(server)
    assert "temperature" not in json.dumps(server.received[0].body)


def test_the_shared_part_stands_first_and_alone(dialect: Dialect) -> None:
    with serving(dialect, good_answer) as server:
        model = proposer(server)
        model.propose(IDEATE)
        model.propose(IMPLEMENT)
    first, second = (asked.prompt for asked in server.received)
    common = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    assert common > 0.6 * len(second), "a cache of prefixes finds most of the prompt again"
    if dialect.name == "anthropic":
        blocks = server.received[0].body["messages"][0]["content"]
        assert [("cache_control" in block) for block in blocks] == [True, False]


def test_feedback_follows_the_prompt(dialect: Dialect) -> None:
    again = replace(IMPLEMENT, feedback=Feedback("def f(:", "It does not parse."))
    with serving(dialect, always(OK)) as server:
        ask(server, again)
    (asked,) = server.received
    assert asked.turns == 2 and "def f(:" in asked.prompt
    assert asked.prompt.rstrip().endswith("in the form asked for.") and "It does not parse." in asked.prompt


def test_raw_request_and_response_are_kept_without_the_key(dialect: Dialect) -> None:
    with serving(dialect, always(OK)) as server:
        answer = ask(server)
    assert "Use tiles" in answer.request_text and json.loads(answer.request_text)
    assert "ModelNew" in answer.response_text and json.loads(answer.response_text)
    assert CANARY in json.dumps(server.received[0].headers), "the key went to the provider"
    assert CANARY not in answer.request_text + answer.response_text


# ------------------------------------------------------------------------------------------------- failures

STATUSES = [
    (Status(401, f"Incorrect API key provided: {CANARY}"), Failure.AUTH, False),
    (Status(403, "not allowed"), Failure.AUTH, False),
    (Status(404, "The model `fake` does not exist"), Failure.NO_MODEL, False),
    (
        Status(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded"),
        Failure.CONTEXT,
        False,
    ),
    (Status(400, "prompt is too long: 250000 tokens > 200000 maximum"), Failure.CONTEXT, False),
    (Status(400, "Unsupported parameter: temperature"), Failure.BAD_REQUEST, False),
    (Status(402, "credit"), Failure.QUOTA, False),
    (
        Status(429, "You exceeded your current quota, please check your plan", "insufficient_quota"),
        Failure.QUOTA,
        False,
    ),
    (Status(429, "slow down"), Failure.RATE_LIMIT, False),
    (Status(500, "oops"), Failure.SERVER, False),
    (Status(503, "unavailable"), Failure.OVERLOADED, False),
    (Status(504, "gateway"), Failure.SERVER, True),
    (Status(529, "Overloaded"), Failure.OVERLOADED, False),
]


@pytest.mark.parametrize(("step", "kind", "in_doubt"), STATUSES, ids=lambda x: str(getattr(x, "status", "")))
def test_every_status_is_what_it_means(dialect: Dialect, step: Status, kind: Failure, in_doubt: bool) -> None:
    failed, _ = failure(dialect, step)
    assert (failed.kind, failed.in_doubt) == (kind, in_doubt)
    assert f"HTTP {step.status}" in str(failed) and failed.proposal is not None
    assert failed.proposal.failure == str(kind) and failed.proposal.usage.cost_usd == 0.0
    assert CANARY not in str(failed) + failed.proposal.request_text + failed.proposal.response_text


def test_the_cure_names_what_to_do(dialect: Dialect) -> None:
    failed, _ = failure(dialect, Status(401, "no"))
    variable = {"openai": "OPENAI_API_KEY", "google": "GEMINI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
    assert variable.get(dialect.name, "OPENAI_COMPATIBLE_API_KEY") in str(failed)
    failed, _ = failure(dialect, Status(413, "too large"))
    assert "--prompt-tokens" in str(failed)


@pytest.mark.parametrize(("header", "seconds"), [({"retry-after": "7"}, 7.0), ({"retry-after-ms": "1500"}, 1.5)])
def test_how_long_to_wait_is_read(dialect: Dialect, header: dict[str, str], seconds: float) -> None:
    failed, _ = failure(dialect, Status(429, "slow down", headers=header))
    assert failed.retry_after_s == seconds


def test_googles_own_way_to_say_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dialects import Gemini

    class Told(Gemini):
        def error(self, step: Status) -> dict[str, Any]:
            detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
            document = super().error(step)
            document["error"]["details"] = [detail]
            return document

    environment(monkeypatch, tmp_path)
    failed, _ = failure(Told(), Status(429, "quota"))
    assert (failed.kind, failed.retry_after_s) == (Failure.RATE_LIMIT, 34.5)


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_connection_that_breaks_off_may_have_been_billed(dialect: Dialect, pieces: int) -> None:
    failed, server = failure(dialect, Reset(replace(OK, text=OK.text + "#" * 400), pieces))
    assert (failed.kind, failed.in_doubt) == (Failure.CONNECTION, True)
    assert len(server.billed) == 1


def test_a_server_that_is_not_there_owes_and_is_owed_nothing(dialect: Dialect) -> None:
    with serving(dialect, always(OK)) as server:
        model = proposer(server)
    with pytest.raises(CallFailed) as caught:
        model.propose(IMPLEMENT)
    assert (caught.value.kind, caught.value.in_doubt) == (Failure.CONNECTION, False)


def test_a_slow_first_byte_is_a_timeout_and_in_doubt(dialect: Dialect) -> None:
    begun = time.monotonic()
    failed, _ = failure(dialect, Slow(3.0, OK), timeout_s=0.3)
    assert (failed.kind, failed.in_doubt) == (Failure.TIMEOUT, True)
    assert time.monotonic() - begun < 2.5


def test_a_trickle_ends_at_the_deadline(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(OK, text="#" * 40 * 200)

    class Trickle:
        def __getattr__(self, name: str) -> Any:
            return getattr(dialect, name)

        def events(self, asked: Any, say: Say) -> Iterator[bytes]:
            for piece in dialect.events(asked, say):
                time.sleep(0.05)
                yield piece

    failed, _ = failure(Trickle(), long, timeout_s=1.0, deadline_s=0.5)  # type: ignore[arg-type]
    assert (failed.kind, failed.in_doubt) == (Failure.TIMEOUT, True)


def test_an_error_in_the_middle_of_a_stream(dialect: Dialect) -> None:
    failed, _ = failure(dialect, Broken(replace(OK, text="#" * 400)))
    assert failed.kind in (Failure.OVERLOADED, Failure.SERVER) and failed.in_doubt


def test_json_that_is_cut_off_is_no_answer(dialect: Dialect) -> None:
    failed, _ = failure(dialect, Garbled(replace(OK, text="#" * 400)))
    assert failed.retry and failed.in_doubt


def test_an_empty_answer(dialect: Dialect) -> None:
    failed, _ = failure(dialect, replace(OK, text=""))
    assert failed.kind is Failure.EMPTY and failed.proposal is not None and not failed.in_doubt
    assert failed.proposal.usage.cost_usd == pytest.approx(0.00492)
    assert failed.feedback is not None and "empty" in failed.feedback.reason


def test_an_answer_at_the_limit_is_cut_and_never_read(dialect: Dialect) -> None:
    failed, _ = failure(dialect, replace(OK, finish="length"))
    assert failed.kind is Failure.CUT and "400 tokens" in str(failed) and failed.feedback is not None


@pytest.mark.parametrize("finish", ["filter", "refusal"])
def test_a_refusal_is_not_asked_again(dialect: Dialect, finish: str) -> None:
    failed, _ = failure(dialect, replace(OK, text="I cannot help with that.", finish=finish))
    assert failed.kind is Failure.REFUSED and not failed.retry
    assert failed.proposal is not None and failed.proposal.usage.input_tokens == 1000


def test_an_answer_that_breaks_the_contract_says_how(dialect: Dialect) -> None:
    failed, _ = failure(dialect, replace(OK, text="```python\ndef f(:\n```"))
    assert failed.kind is Failure.CONTRACT and failed.feedback is not None
    assert "does not parse" in failed.feedback.reason and "def f(:" in failed.feedback.answer


def test_a_provider_that_does_not_count_is_counted_here(dialect: Dialect) -> None:
    with serving(dialect, always(replace(OK, usage=False))) as server:
        answer = proposer(server).propose(IMPLEMENT)
    if dialect.name == "anthropic":
        return  # its protocol always counts
    assert answer.usage.estimated and answer.usage.input_tokens > 500 and answer.usage.cost_usd > 0


# ------------------------------------------------------------------- what compatible servers differ in


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_a_field_of_its_own_is_kept_apart(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, tmp_path)
    with serving(Chat(field), always(replace(OK, thoughts="let me think"))) as server:
        answer = ask(server)
    assert answer.code.startswith("class ModelNew") and "let me think" in answer.response_text


def test_reasoning_between_tags_is_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, tmp_path)
    thought = "<think>```python\nclass ModelNew: bad(\n```</think>\n"
    with serving(Chat(), always(replace(OK, text=thought + OK.text))) as server:
        assert ask(server).code == "class ModelNew:\n    pass\n"


def test_a_server_that_cannot_stream_is_asked_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, tmp_path)
    with serving(Chat(), always(OK)) as server:
        answer = ask(server, stream=False)
    assert not server.received[0].stream and answer.usage.cached_tokens == 600
    failed, _ = failure(Chat(), replace(OK, finish="length"), stream=False)
    assert failed.kind is Failure.CUT


def test_json_mode_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, tmp_path)
    with serving(Chat(), good_answer) as server:
        ask(server, IDEATE, structured="json_object")
        ask(server, IDEATE)
    first, second = (asked.body.get("response_format") for asked in server.received)
    assert first == {"type": "json_object"} and second is None


def test_many_calls_at_once_do_not_mix(dialect: Dialect) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def answer(asked: Any, number: int) -> Say:
        name = asked.prompt.split("Carry out this idea:")[1].split()[1]
        time.sleep(0.02)
        return replace(OK, text=f"```python\nclass ModelNew:\n    x = '{name}'\n```")

    with serving(dialect, answer) as server:
        model = proposer(server)
        requests = [replace(IMPLEMENT, idea=Idea(f"idea {n}")) for n in range(24)]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(model.propose, requests))
    assert [f"'{n}'" in a.code for n, a in enumerate(answers)] == [True] * 24
    assert server.most_at_once > 1
