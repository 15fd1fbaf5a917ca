"""Whole jobs over fake servers: tries and their rows in the ledger, waits, caps, searches with faults injected."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import CANARY, always, environment, good_answer, options, program, proposer
from dialects import DIALECTS, Chat, Messages, Responses
from fake_server import Asked, Broken, Dialect, FakeServer, Garbled, Reset, Say, Slow, Status, Step, serving

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from fake_search import FakeEvaluator, controller, spec

from kernelgrove import strategies
from kernelgrove.engine import search as engine
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.calls import Policy
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.errors import ProposerUnusable, UsageError
from kernelgrove.model import JobKind, JobState, SearchStatus, StoppedBy
from kernelgrove.storage.costs import cost_document
from kernelgrove.storage.store import SqliteStore, open_store

#: Waits of a test: the shape of the real ones, a hundred times shorter.
QUICK = Policy(tries=6, first_wait_s=0.01, longest_wait_s=0.1, longest_rest_s=1.0)


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return request.param


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with open_store(tmp_path / "grove.db", create=True) as opened:
        yield opened


def rows(store: SqliteStore, what: str = "*") -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{store.location.path}?mode=ro", uri=True) as file:
        file.row_factory = sqlite3.Row
        return [dict(row) for row in file.execute(f"SELECT {what} FROM completion ORDER BY id")]


def run(
    store: SqliteStore, server: FakeServer, strategy: str = "zero_shot", budget: Budget | None = None, **more: Any
) -> tuple[StoppedBy, int]:
    """A search over *server*; how it ended, and its number."""
    made = strategies.make(strategy, more.pop("strategy_options", {"samples": 1} if strategy == "zero_shot" else {}))
    search = store.create_search(spec(**more.pop("spec", {})), ROOT_IDEA)
    model = proposer(server, **more.pop("settings", {}))
    evaluator = more.pop("evaluator", FakeEvaluator())
    run = controller(
        store,
        [model],
        evaluator,
        search=search,
        strategy=made,
        budget=budget or Budget(),
        policy=more.pop("policy", QUICK),
        **more,
    )
    return run.run(), search


def script(*steps: Step, then: Callable[[Asked, int], Step] = good_answer) -> Callable[[Asked, int], Step]:
    return lambda asked, number: steps[number - 1] if number <= len(steps) else then(asked, number)


# --------------------------------------------------------------------------------------------------- tries


def test_a_row_a_try(store: SqliteStore, dialect: Dialect) -> None:
    faults = (Status(429, "slow", headers={"retry-after": "0.05"}), Status(500), Status(529))
    with serving(dialect, script(*faults)) as server:
        ended, search = run(store, server)
    assert ended is StoppedBy.STRATEGY and len(server.received) == 4
    found = rows(store)
    assert [row["state"] for row in found] == ["error", "error", "error", "ok"]
    assert [json.loads(row["proposal"]).get("failure") for row in found] == ["rate_limit", "server", "overloaded", None]
    assert [row["cost_usd"] for row in found[:3]] == [0.0, 0.0, 0.0] and found[3]["cost_usd"] > 0
    assert all(row["request"] and row["response"] for row in found), "raw texts are kept of failures too"
    (made,) = store.tree(search).implementations.values()
    assert made.ok and made.model == f"{dialect.name}:fake"


def test_what_the_provider_asks_for_is_waited_for(store: SqliteStore) -> None:
    begun: list[float] = []

    def answer(asked: Asked, number: int) -> Step:
        begun.append(time.monotonic())
        return Status(429, "slow", headers={"retry-after": "0.4"}) if number == 1 else good_answer(asked, number)

    with serving(Responses(), answer) as server:
        run(store, server)
    assert begun[1] - begun[0] >= 0.4


def test_a_rest_that_is_too_long_is_not_waited_for(store: SqliteStore) -> None:
    tired = Status(429, "slow", headers={"retry-after": "3600"})
    with serving(Responses(), always(tired)) as server, pytest.raises(ProposerUnusable, match="60 min"):
        run(store, server)
    assert len(server.received) == 1
    assert [j.state for j in store.tree(1).jobs] == [JobState.QUEUED]


def test_tries_are_bounded_and_the_search_says_so(store: SqliteStore) -> None:
    policy = replace(QUICK, tries=2)
    with (
        serving(Chat(), always(Status(503, "down"))) as server,
        pytest.raises(ProposerUnusable, match="3 jobs in a row"),
    ):
        run(store, server, strategy_options={"samples": 4}, policy=policy, parallel=1)
    record = store.search(1)
    assert record.status is SearchStatus.FAILED and "down" in record.note
    assert len(server.received) == 6 == len(rows(store))
    assert {j.state for j in store.tree(1).jobs} == {JobState.QUEUED}, "no job is the worse for it"


@pytest.mark.parametrize("status", [401, 402, 404])
def test_a_key_quota_or_model_that_is_wrong_ends_the_search_at_once(
    store: SqliteStore, dialect: Dialect, status: int
) -> None:
    with serving(dialect, always(Status(status, "no"))) as server, pytest.raises(ProposerUnusable) as caught:
        run(store, server, strategy_options={"samples": 6}, parallel=1)
    assert len(server.received) == 1 and f"HTTP {status}" in str(caught.value)
    assert {j.state for j in store.tree(1).jobs} == {JobState.QUEUED}, "its jobs wait for a resume, uncharged"
    with serving(dialect, good_answer) as server:
        again = controller(store, [proposer(server)], search=1, strategy=strategies.make("zero_shot", {"samples": 6}))
        assert again.run() is StoppedBy.STRATEGY
    assert len(store.tree(1).implementations) == 6


@pytest.mark.parametrize("step", [Status(400, "maximum context length exceeded"), Say("no", finish="refusal")])
def test_no_second_try_where_it_cannot_help(store: SqliteStore, dialect: Dialect, step: Step) -> None:
    with serving(dialect, always(step)) as server:
        ended, search = run(store, server)
    assert ended is StoppedBy.STRATEGY and len(server.received) == 1
    (job,) = store.tree(search).jobs
    assert job.state is JobState.FAILED and ("refused" in str(job.reason) or "context" in str(job.reason))


def test_the_reason_is_fed_back_once(store: SqliteStore, dialect: Dialect) -> None:
    broken = Say("```python\nclass ModelNew:\n    def forward(self:\n```")
    with serving(dialect, script(broken, broken)) as server:
        _, search = run(store, server)
    assert len(server.received) == 2 and server.received[1].turns == 2
    assert "does not parse" in server.received[1].prompt
    (job,) = store.tree(search).jobs
    assert job.state is JobState.FAILED and "breaks the contract" in str(job.reason)
    assert not store.tree(search).implementations
    assert [row["state"] for row in rows(store)] == ["error", "error"] and all(r["cost_usd"] > 0 for r in rows(store))


@pytest.mark.parametrize(("step", "most"), [(Say(""), 3), (Say("```python\nclass Mod", finish="length"), 2)])
def test_empty_and_cut_answers_are_asked_again_and_never_judged(
    store: SqliteStore, dialect: Dialect, step: Say, most: int
) -> None:
    with serving(dialect, script(step)) as server:
        _, search = run(store, server)
    assert len(server.received) == 2 and len(store.tree(search).implementations) == 1
    with serving(dialect, always(step)) as server:
        _, search = run(store, server)
    assert len(server.received) == most and not store.tree(search).implementations


def test_a_call_cut_off_is_charged_at_its_reservation(store: SqliteStore, dialect: Dialect) -> None:
    long = Say("#" * 500, 1000, 300)
    with serving(dialect, script(Reset(long), Slow(1.0, long))) as server:
        run(store, server, settings={"timeout_s": 0.2})
    first, second, third = rows(store)
    assert (first["state"], second["state"], third["state"]) == ("unknown", "unknown", "ok")
    for row in (first, second):
        assert row["cost_usd"] == row["reserve_usd"] > 0.0032, "at least what was billed"
        assert row["tokens"] == row["reserve_tokens"] >= 4000
        assert row["request"], "what was asked is kept"


def test_a_stop_ends_a_wait_and_gives_the_job_back(store: SqliteStore) -> None:
    with serving(Responses(), always(Status(429, "slow", headers={"retry-after": "30"}))) as server:
        search = store.create_search(spec(), ROOT_IDEA)
        run = controller(
            store, [proposer(server)], search=search, strategy=strategies.make("zero_shot", {"samples": 1}),
            policy=replace(QUICK, longest_rest_s=60.0),
        )  # fmt: skip

        def stop() -> None:
            while not server.received:
                time.sleep(0.01)
            time.sleep(0.2)  # the answer is there, and the wait has begun
            run.stop_softly()

        threading.Thread(target=stop, daemon=True).start()
        begun = time.monotonic()
        assert run.run() is StoppedBy.USER
    assert time.monotonic() - begun < 20, "not as long as the server asked to wait"
    (job,) = store.tree(search).jobs
    assert job.state is JobState.QUEUED


# ---------------------------------------------------------------------------------------------------- limits


def test_no_more_calls_at_once_than_the_account_takes(store: SqliteStore) -> None:
    def answer(asked: Asked, number: int) -> Step:
        time.sleep(0.03)
        return good_answer(asked, number)

    with serving(Chat(), answer) as server:
        run(store, server, settings={"concurrency": 2}, strategy_options={"samples": 10}, parallel=8)
    assert server.most_at_once == 2 and len(server.received) == 10


# ----------------------------------------------------------------------------------------------------- caps


def test_a_cap_in_dollars_holds_with_eight_calls_in_flight(store: SqliteStore, dialect: Dialect) -> None:
    def answer(asked: Asked, number: int) -> Step:
        time.sleep(0.02)
        return good_answer(asked, number)

    with serving(dialect, answer) as server:
        ended, search = run(store, server, budget=Budget(dollars=0.12), strategy_options={"samples": 200}, parallel=8)
    assert ended is StoppedBy.DOLLARS
    spent = store.spent(search)
    billed = sum(_dollars(bill.say) for bill in server.billed)
    assert spent.cost_usd == pytest.approx(billed) and 0.05 < spent.cost_usd <= 0.12
    view = store.tree(search)
    assert all(i.evaluation for i in view.implementations.values()), "what was paid for is judged"
    assert "the next call may cost" in store.search(search).note
    with serving(dialect, answer) as server:
        again = controller(
            store, [proposer(server)], search=search, strategy=strategies.make("zero_shot", {"samples": 200}),
            budget=Budget(dollars=0.2), policy=QUICK, parallel=8,
        )  # fmt: skip
        assert again.run() is StoppedBy.DOLLARS
    assert spent.cost_usd < store.spent(search).cost_usd <= 0.2


def test_a_cap_in_tokens_holds(store: SqliteStore) -> None:
    with serving(Responses(), good_answer) as server:
        ended, search = run(store, server, budget=Budget(tokens=30_000), strategy_options={"samples": 200}, parallel=8)
    assert ended is StoppedBy.TOKENS and store.spent(search).tokens <= 30_000
    assert len(server.billed) > 8


def test_a_cap_in_dollars_needs_prices(tmp_path: Path) -> None:
    with serving(Chat(), good_answer) as server:
        given = {**options(server), "budget_usd": 1.0}
        engine.proposers_of(["openai-compatible:fake"], given)
        with pytest.raises(UsageError, match="price is not known"):
            engine.proposers_of(["openai-compatible:other"], given)


# ------------------------------------------------------------------------------------------ whole searches

FAULTS: tuple[Callable[[Say], Step], ...] = (
    lambda say: Status(429, "slow", headers={"retry-after": "0.01"}),
    lambda say: Status(500, "oops"),
    lambda say: Status(529, "Overloaded"),
    lambda say: replace(say, text=""),
    lambda say: replace(say, finish="length"),
    lambda say: replace(say, text="I would rather talk about the weather."),
)
IN_DOUBT: tuple[Callable[[Say], Step], ...] = (
    lambda say: Reset(replace(say, text="#" * 400)),
    lambda say: Garbled(replace(say, text="#" * 400)),
    lambda say: Broken(replace(say, text="#" * 400)),
    lambda say: Slow(0.6, say),
)
TREE = {"rounds": 4, "widths": 10, "depths": 1}


def faulty(
    share: float, faults: tuple[Callable[[Say], Step], ...], seed: int, told: list[Step]
) -> Callable[[Asked, int], Step]:
    dice = random.Random(seed)
    lock = threading.Lock()

    def answer(asked: Asked, number: int) -> Step:
        say = good_answer(asked, number)
        with lock:
            if dice.random() >= share:
                return say
            told.append(dice.choice(faults)(say))
            return told[-1]

    return answer


def _dollars(say: Say) -> float:
    fresh = say.input_tokens - say.cached - say.cache_write
    return (fresh * 2.0 + say.cached * 0.2 + say.cache_write * 2.5 + say.output_tokens * 10.0) / 1e6


def test_thirty_nodes_with_a_tenth_of_faults_and_the_servers_own_total(store: SqliteStore, dialect: Dialect) -> None:
    told: list[Step] = []
    with serving(dialect, faulty(0.1, FAULTS, 1, told)) as server:
        ended, search = run(store, server, "branch", strategy_options=TREE, parallel=8)
    assert ended is StoppedBy.STRATEGY
    view = store.tree(search)
    assert len(view.nodes) >= 30 and sum(i.ok for i in view.implementations.values()) >= 28
    spent = store.spent(search)
    assert len(told) >= 3 and spent.calls == len(server.received) == len(rows(store))
    assert spent.input_tokens == sum(bill.say.input_tokens for bill in server.billed)
    assert spent.output_tokens == sum(bill.say.output_tokens for bill in server.billed)
    assert spent.cost_usd == pytest.approx(sum(_dollars(bill.say) for bill in server.billed))
    document = cost_document(store, search)
    assert document["total"]["tokens"]["cached"] == sum(bill.say.cached for bill in server.billed)
    assert document["total"]["tokens"]["reasoning"] == sum(bill.say.reasoning for bill in server.billed)
    outcomes = {group["outcome"] for group in document["groups"]} - {"ok"}
    assert outcomes and outcomes <= {"rate_limit", "server", "overloaded", "empty", "cut", "contract"}


def test_thirty_nodes_with_calls_cut_off_and_never_less_than_the_server_counted(
    store: SqliteStore, dialect: Dialect
) -> None:
    told: list[Step] = []
    with serving(dialect, faulty(0.1, IN_DOUBT, 3, told)) as server:
        ended, search = run(store, server, "branch", strategy_options=TREE, parallel=8, settings={"timeout_s": 0.25})
    assert ended is StoppedBy.STRATEGY and len(store.tree(search).nodes) >= 30
    found = rows(store)
    assert len(found) == len(server.received)
    states = Counter(row["state"] for row in found)
    assert states["unknown"] == len(told) >= 3 and not states["planned"] and not states["sent"]
    known = sum(row["cost_usd"] for row in found if row["state"] != "unknown")
    billed = sum(_dollars(bill.say) for bill in server.billed)
    assert known < billed <= store.spent(search).cost_usd
    calm = sum(_dollars(bill.say) for bill in server.billed if not bill.reset)
    assert known <= calm + 1e-9


def test_a_search_is_replayed_from_its_own_records(store: SqliteStore, tmp_path: Path) -> None:
    """Every answer is kept, so the whole search can be had again, with no server, and gives the same tree."""
    from kernelgrove.engine.proposers.base import make

    def fate(asked: Asked, number: int) -> str:
        return "wrong_result" if number % 4 == 0 else f"ok {1 + number / 1000:.4f} {number}"

    tree = {"rounds": 3, "widths": 4, "depths": 2, "repair_quota": 4}
    with serving(Messages(), lambda asked, number: good_answer(asked, number, fate)) as server:
        _, first = run(store, server, "branch", strategy_options=tree, parallel=6)
    asked = len(server.received)
    replay = make(f"recorded:{store.location.path}#s{first}")
    with open_store(tmp_path / "again.db", create=True) as other:
        second = other.create_search(spec(), ROOT_IDEA)
        again = controller(other, [replay], search=second, strategy=strategies.make("branch", tree), parallel=2)
        assert again.run() is StoppedBy.STRATEGY
        assert _shape(other, second) == _shape(store, first)
        assert other.spent(second).cost_usd == pytest.approx(store.spent(first).cost_usd)
    assert len(server.received) == asked


def _shape(store: SqliteStore, search: int) -> Any:
    view = store.tree(search)
    by_id = {i.id: i.address for i in view.implementations.values()}
    nodes = {n.address: (n.idea, n.round, by_id.get(n.base or 0), n.state) for n in view.nodes.values()}
    made = {
        i.address: (store.code(i.program), i.evaluation and (i.evaluation.outcome, i.evaluation.time_ms))
        for i in view.implementations.values()
    }
    return nodes, made


# ----------------------------------------------------------------------------------------------------- keys


def test_the_key_is_in_no_artefact(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A canary key, with servers that repeat it in their errors: not in the grove, its journals, exports, logs or
    output."""
    caplog.set_level("DEBUG")
    folder = tmp_path / "artefacts"
    folder.mkdir()

    def echo(asked: Asked, number: int) -> Step:
        told = f"you sent {CANARY} in {json.dumps(asked.headers)}"
        steps: tuple[Step, ...] = (
            Status(500, told),
            Broken(Say("#" * 300), message=told),
            Say(f"{told}\n```python\n{program('ok 1.0 a')}```"),
            Say(f"```python\n# {CANARY}\n{program('ok 1.0 b')}```"),
        )  # fmt: skip
        return steps[(number - 1) % 4]

    with open_store(folder / "grove.db", create=True) as store:
        for dialect in DIALECTS:
            with serving(dialect, echo) as server:
                run(store, server, strategy_options={"samples": 3}, parallel=1)
                assert CANARY in json.dumps(server.received[0].headers)
            with serving(dialect, always(Status(401, f"bad key {CANARY}"))) as server, pytest.raises(ProposerUnusable):
                run(store, server)
    from kernelgrove.cli import run as command

    for form in ("jsonl", "graphml", "csv"):
        assert (
            command(["export", "--format", form, "-o", str(folder / f"all.{form}"), "--db", str(folder / "grove.db")])
            == 0
        )
    for search in range(1, 9):
        for words in (["show", f"s{search}"], ["tree", f"s{search}"], ["cost", f"s{search}"], ["stats", f"s{search}"]):
            assert command([*words, "--db", str(folder / "grove.db")]) == 0
    for path in folder.rglob("*"):
        assert CANARY.encode() not in path.read_bytes(), path
    out, err = capfd.readouterr()
    assert CANARY not in out + err + caplog.text


def test_a_worker_and_a_judge_get_no_key() -> None:
    from kernelgrove.engine.evaluator import pool

    assert not [name for name in pool._KEPT if "KEY" in name or "TOKEN" in name]


def test_job_kinds_are_told_apart(store: SqliteStore) -> None:
    with serving(Chat(), good_answer) as server:
        _, search = run(store, server, "branch", strategy_options={"rounds": 2, "widths": 2, "depths": 1})
    kinds = {group["kind"]: group["calls"] for group in cost_document(store, search, ["kind"])["groups"]}
    assert kinds[str(JobKind.IMPLEMENT)] == 3 and kinds[str(JobKind.IDEATE)] >= 1 and len(kinds) == 2
