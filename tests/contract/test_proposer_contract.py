"""What every proposer must do. A new one is added to ``MAKERS`` first; one that needs a paid call is given a server on
loopback that speaks its protocol (``tests/wire``) and is otherwise the real thing, SDK included.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "wire"))
from clients import environment, options
from dialects import DIALECTS
from fake_server import Asked, Dialect, Say, serving

from kernelgrove.engine.proposers.base import PROVIDERS, make, weighted
from kernelgrove.engine.proposers.settings import names
from kernelgrove.errors import EnvironmentLacks, ProposerError, StoreError, UsageError
from kernelgrove.model import Basis, Device, Idea, Ideate, Instance, JobKind
from kernelgrove.ports import Attempt, IdeasResult, PlannedJob, Proposal, ProposalRequest, Proposer, SearchSpec
from kernelgrove.problems.problem import load, sized_source
from kernelgrove.storage.store import open_store

PROBLEM = load("softmax")
INSTANCE = Instance(
    PROBLEM.name, PROBLEM.digest, "full", sized_source(PROBLEM, "full"), "small", sized_source(PROBLEM, "small")
)
IDEA = Idea("Walk each row in tiles instead of holding it in registers", "registers", "memory")
CODE = "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    pass\n"


def request(kind: JobKind, key: str, **details: object) -> ProposalRequest:
    common = ProposalRequest(kind, key, PROBLEM, INSTANCE, "H100", "triton", seed=7)
    return replace(common, **details)  # type: ignore[arg-type]


IDEATE = request(JobKind.IDEATE, "ideate:r", count=2)
IMPLEMENT = request(JobKind.IMPLEMENT, "implement:r.0:0", idea=IDEA)
REPAIR = request(
    JobKind.REPAIR,
    "repair:r.0:0",
    idea=IDEA,
    failed=Attempt(IDEA, CODE, "runtime_error", "NotImplementedError", None, None, None),
)
ANSWERS = {
    IDEATE.key: Proposal(ideas=(IDEA, Idea("Use more warps")), request_text="asked", response_text="said"),
    IMPLEMENT.key: Proposal(code=CODE, note="as recorded"),
    REPAIR.key: Proposal(code=CODE + "# repaired\n"),
}


def _rules(folder: Path) -> Proposer:
    return make("rules", {})


def _jsonl(folder: Path) -> Proposer:
    lines = [
        {"problem": PROBLEM.digest, "key": key, "note": answer.note}
        | ({"code": answer.code} if answer.code else {"ideas": [asdict(idea) for idea in answer.ideas]})
        for key, answer in ANSWERS.items()
    ]
    path = folder / "recorded.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return make(f"recorded:{path}")


def _grove(folder: Path) -> Proposer:
    path = folder / "recorded.db"
    store = open_store(path, create=True)
    device = Device("cpu", "H100", "cpu->H100", Basis.PROJECTED)
    search = store.create_search(SearchSpec(PROBLEM, INSTANCE, device, "branch", {}, ("x",), 1), Idea("the reference"))
    root = store.tree(search).root
    for step, asked in enumerate((IDEATE, IMPLEMENT, REPAIR)):
        planned = PlannedJob(
            JobKind.IDEATE, asked.key, {"parent": root, "base": None, "count": 2, "round": 1}, node=root
        )
        store.record(search, step, [Ideate(root, None, 2, 1)], [planned])
        job = store.claim(search, "me", [JobKind.IDEATE], 60.0)
        assert job is not None
        completion = store.plan_completion(job, "x", asked)
        store.mark_sent(completion)
        store.settle_completion(completion, True, ANSWERS[asked.key])
        assert store.finish(job, IdeasResult((), "x"))
    store.close()
    return make(f"recorded:{path}#s{search}")


#: Answers a prompt on standard input as a well-behaved model would.
_ANSWERER = f"""
import json, re, sys
prompt = sys.stdin.read()
wanted = re.search(r"Name (\\d+) ideas?\\b", prompt)
if wanted:
    ideas = [dict(text=f"Use {{n + 4}} warps", category="occupancy") for n in range(int(wanted[1]))]
    print(json.dumps(dict(ideas=ideas)))
else:
    print("```python\\n" + {CODE!r} + "```")
"""


def _command(folder: Path) -> Proposer:
    script = folder / "answer.py"
    script.write_text(_ANSWERER)
    return make(f"command:{shlex.quote(sys.executable)} {shlex.quote(str(script))}")


MAKERS: dict[str, Callable[[Path], Proposer]] = {
    "rules": _rules,
    "jsonl": _jsonl,
    "grove": _grove,
    "command": _command,
}
SERVED: dict[str, Dialect] = {dialect.name: dialect for dialect in DIALECTS}


def _say(asked: Asked, number: int) -> Say:
    wanted = re.search(r"Name (\d+) ideas?\b", asked.prompt)
    if wanted is None:
        return Say(f"```python\n{CODE}```")
    ideas = [{"text": f"Use {n + 4} warps", "rationale": "", "category": "occupancy"} for n in range(int(wanted[1]))]
    return Say(json.dumps({"ideas": ideas}))


@pytest.fixture(params=[*MAKERS, *SERVED])
def proposer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proposer]:
    if request.param in MAKERS:
        yield MAKERS[request.param](tmp_path)
        return
    environment(monkeypatch, tmp_path)
    with serving(SERVED[request.param], _say) as server:
        yield make(f"{request.param}:fake", options(server, timeout_s=10.0, deadline_s=20.0))


def test_it_has_the_shape_of_the_port_and_a_name(proposer: Proposer) -> None:
    assert isinstance(proposer, Proposer) and proposer.name.split(":")[0] in {*PROVIDERS, *names()}


def test_ideas_are_sentences_and_no_more_than_asked(proposer: Proposer) -> None:
    answer = proposer.propose(IDEATE)
    assert answer.code is None and 0 < len(answer.ideas) <= 2
    assert all(idea.text.strip() and idea.category for idea in answer.ideas)
    assert len({idea.text for idea in answer.ideas}) == len(answer.ideas)


@pytest.mark.parametrize("asked", [IMPLEMENT, REPAIR], ids=["implement", "repair"])
def test_code_is_one_program_with_the_class_asked_for(proposer: Proposer, asked: ProposalRequest) -> None:
    answer = proposer.propose(asked)
    assert answer.code is not None and not answer.ideas and "class ModelNew" in answer.code
    compile(answer.code, "program", "exec")


def test_the_same_request_twice_and_from_many_threads_is_the_same_answer(proposer: Proposer) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(proposer.propose, [IDEATE, IMPLEMENT] * 4))
    assert answers[0::2] == [answers[0]] * 4 and answers[1::2] == [answers[1]] * 4


def test_what_it_costs_is_told(proposer: Proposer) -> None:
    usage = proposer.propose(IMPLEMENT).usage
    assert usage.input_tokens >= 0 and usage.output_tokens >= 0 and (usage.cost_usd is None or usage.cost_usd >= 0)


# ------------------------------------------------------------------------------------------ recorded answers


@pytest.mark.parametrize("maker", [_jsonl, _grove])
def test_recorded_answers_come_back_whole(maker: Callable[[Path], Proposer], tmp_path: Path) -> None:
    proposer = maker(tmp_path)
    for asked in (IDEATE, IMPLEMENT, REPAIR):
        answer, meant = proposer.propose(asked), ANSWERS[asked.key]
        assert (answer.ideas, answer.code, answer.note) == (meant.ideas, meant.code, meant.note)


@pytest.mark.parametrize("maker", [_jsonl, _grove])
def test_what_was_not_recorded_is_an_error_that_names_key_and_file(
    maker: Callable[[Path], Proposer], tmp_path: Path
) -> None:
    proposer = maker(tmp_path)
    other = replace(PROBLEM, source=PROBLEM.source + "\n")
    for asked in (replace(IDEATE, key="ideate:r.9"), replace(IDEATE, problem=other)):
        with pytest.raises(ProposerError, match=f"recorded.* has no recorded answer for {asked.key}") as caught:
            proposer.propose(asked)
        assert caught.value.retry is False


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ('{"key": "k", "code": ""}', "lacks 'problem'"),
        ('{"problem": "p", "key": "k"}', "neither ideas, code nor ratings"),
        ('{"problem": "p", "key": "k", "code": 3}', "not text"),
        ('{"problem": "p", "key": "k", "ideas": [{"words": "x"}]}', "line 2"),
        ("[]", "line 2"),
    ],
)
def test_a_wrong_line_is_named(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"problem": "p", "key": "k", "ideas": ["Use more warps"]}\n' + line + "\n")
    with pytest.raises(UsageError, match=says):
        make(f"recorded:{path}")


# -------------------------------------------------------------------------------------------- the registry


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("oracle:7", "There is: rules, recorded:FILE"),
        ("", "There is no proposer ''"),
        ("rules:large", "takes no model"),
        ("recorded", "needs a file"),
        ("recorded:none.jsonl", "none.jsonl cannot be read"),
        ("recorded:x.db#three", "s3"),
        ("recorded:x.jsonl#s1", "names a search"),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_says_what_there_is(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make(spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("openai", "names no model"),
        ("openai-compatible:m", "OPENAI_COMPATIBLE_BASE_URL"),
        ("openai-compatible:m@http://user:secret@host/v1", "password"),
        ("command:", "names no command"),
        ("command:no-such-program-anywhere -x", "no program 'no-such-program-anywhere'"),
        ("command:'unbalanced", "quotes"),
        ("queue:me", "takes no model"),
    ],
)
def test_a_wrong_way_to_a_model_is_a_usage_error(
    spec: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment(monkeypatch, tmp_path)
    monkeypatch.delenv("OPENAI_COMPATIBLE_BASE_URL", raising=False)
    with pytest.raises(UsageError, match=says):
        make(spec)


def test_a_key_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment(monkeypatch, tmp_path)
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for spec, name in {
        "openai:x": "OPENAI",
        "google:x": "GEMINI",
        "anthropic:x": "ANTHROPIC",
        "deepseek:x": "DEEPSEEK",
    }.items():
        with pytest.raises(EnvironmentLacks, match=f"{name}_API_KEY"):
            make(spec)
    key = tmp_path / "key"
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(key))
    with pytest.raises(EnvironmentLacks, match="cannot be read"):
        make("openai:x")
    key.write_text("\n")
    with pytest.raises(EnvironmentLacks, match="is empty"):
        make("openai:x")
    key.write_text("sk-from-a-file\n")
    assert make("openai:x").name == "openai:x"


@pytest.mark.parametrize(
    ("text", "spec", "weight"),
    [
        ("openai:gpt-5=2", "openai:gpt-5", 2.0),
        (" rules ", "rules", 1.0),
        ("ollama:qwen3:32b=.5", "ollama:qwen3:32b", 0.5),
        ("command:ask --tries=2", "command:ask --tries=2", 1.0),
        ("command:ask --tries=2 =3", "command:ask --tries=2", 3.0),
    ],
)
def test_a_weight_stands_behind_the_name(text: str, spec: str, weight: float) -> None:
    found = weighted(text)
    assert (found.spec, found.weight) == (spec, weight)
    with pytest.raises(UsageError, match="weight"):
        weighted("openai:gpt-5=0")


def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    from kernelgrove.engine.proposers.failures import CallFailed, Failure

    with pytest.raises(CallFailed, match="code 3: no credit left") as caught:
        make("command:sh -c 'echo no credit left >&2; exit 3'").propose(IMPLEMENT)
    assert caught.value.kind is Failure.SERVER
    with pytest.raises(CallFailed) as caught:
        make("command:cat /dev/null").propose(IMPLEMENT)
    assert caught.value.kind is Failure.EMPTY


def test_the_queue_answers_nothing_itself() -> None:
    with pytest.raises(ProposerError, match="kernelgrove tasks"):
        make("queue").propose(IMPLEMENT)


def test_a_grove_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.db"):
        make(f"recorded:{tmp_path / 'none.db'}")


def test_making_a_proposer_imports_no_torch() -> None:
    script = (
        "import sys; from kernelgrove.engine.proposers.base import make; make('rules'); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
