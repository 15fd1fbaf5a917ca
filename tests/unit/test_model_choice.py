"""Which of several models answers: shares by weight, and a bandit that learns where the money works."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from kernelgrove.engine.calls import assign
from kernelgrove.engine.choice import Panel, Spending, rewards
from kernelgrove.engine.search import proposers_of
from kernelgrove.errors import UsageError
from kernelgrove.model import (
    Basis,
    EvaluationView,
    Idea,
    ImplementationView,
    JobKind,
    NodeState,
    NodeView,
    Outcome,
    Stage,
    TreeView,
)
from kernelgrove.ports import Job, Proposal, ProposalRequest


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def propose(self, request: ProposalRequest) -> Proposal:
        return Proposal()


A, B, C = Named("a"), Named("b"), Named("c")
ROOT = NodeView(1, None, None, "r", 0, Idea("root"), NodeState.OPEN, None, "")


def job(kind: JobKind, key: str, node: int | None = 1, **payload: int) -> Job:
    return Job(1, 1, kind, key, payload, node, None, "me", 1)


def tree(*judged: tuple[str, float | None]) -> TreeView:
    """A search whose implementations of the root are by these models and took so long (None: failed)."""
    made = {}
    for number, (model, time) in enumerate(judged, 1):
        outcome = Outcome.OK if time is not None else Outcome.WRONG_RESULT
        found = EvaluationView(number, outcome, Stage.TIME, "", Basis.MEASURED, time, {"eager": 1.0}, {})
        made[number] = ImplementationView(number, 1, f"r/{number}", None, f"p{number}", None, model, found)
    return TreeView(1, 7, 0, 1, {1: ROOT}, made)


def test_shares_follow_the_weights() -> None:
    panel = Panel((A, B, C), (3.0, 2.0, 1.0))
    asked = Counter(assign(panel, job(JobKind.IDEATE, f"ideate:{n}"), tree()).name for n in range(6000))
    assert [asked[n] / 6000 for n in "abc"] == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.03)


@pytest.mark.parametrize(("weights", "expected"), [((1.0, 1.0), [6, 6]), ((2.0, 1.0), [8, 4]), ((5.0, 1.0), [10, 2])])
def test_variants_of_an_idea_go_round_by_weight(weights: tuple[float, float], expected: list[int]) -> None:
    panel = Panel((A, B), weights)
    asked = [assign(panel, job(JobKind.IMPLEMENT, f"implement:r:{v}", variant=v), tree()).name for v in range(12)]
    assert [asked.count("a"), asked.count("b")] == expected
    if weights == (1.0, 1.0):
        assert all(x != y for x, y in itertools.pairwise(asked))


def test_the_same_job_is_asked_of_the_same_model() -> None:
    panel = Panel((A, B, C), (1.0, 2.0, 3.0))
    jobs = [job(JobKind.REPAIR, f"repair:{n}") for n in range(50)]
    first = [assign(panel, one, tree()).name for one in jobs]
    assert first == [assign(panel, one, tree(("a", 1.0))).name for one in jobs] and len(set(first)) == 3
    assert assign([A], jobs[0], tree()) is A


def test_rewards_are_improvements_over_what_was_built_on() -> None:
    view = tree(("a", 0.5), ("b", 2.0), ("b", None))
    assert rewards(view) == {"a": [pytest.approx(0.6931, abs=1e-3)], "b": [0.0, 0.0]}
    child = replace(ROOT, id=2, parent=1, base=1, address="r.0", model="c")
    made = replace(view.implementations[1], id=9, node=2, address="r.0/0", model="b")
    faster = replace(made.evaluation, id=9, time_ms=0.25) if made.evaluation else None
    view = replace(
        view, nodes={1: ROOT, 2: child}, implementations={**view.implementations, 9: replace(made, evaluation=faster)}
    )
    found = rewards(view)
    assert found["c"] == [pytest.approx(0.6931, abs=1e-3)], "the idea is its author's"
    assert found["b"][-1] == pytest.approx(0.6931, abs=1e-3), "the program is its author's, over its base"


def asked_by_the_bandit(
    judged: list[tuple[str, float | None]], spent: dict[str, Spending], rounds: int = 60
) -> Counter[str]:
    """Answers keep coming as they came: a model's next program does as its programs did on average."""
    panel = Panel((A, B), policy="bandit")
    asked: Counter[str] = Counter()
    view = tree(*judged)
    for n in range(rounds):
        name = assign(panel, job(JobKind.IMPLEMENT, f"implement:{n}", variant=n), view, spent).name
        asked[name] += 1
        view = tree(*judged, *((name, dict(judged)[name]) for name in asked.elements()))
    return asked


def test_the_bandit_goes_where_improvements_are() -> None:
    asked = asked_by_the_bandit([("a", 0.5), ("b", 0.99)], {"a": Spending(5, 5, 0.05), "b": Spending(5, 5, 0.05)})
    assert asked["a"] > 1.5 * asked["b"] > 0


def test_the_bandit_counts_dollars() -> None:
    """Half the improvement at a twentieth of the price is the better buy."""
    asked = asked_by_the_bandit([("a", 0.5), ("b", 0.7)], {"a": Spending(5, 5, 1.0), "b": Spending(5, 5, 0.05)})
    assert asked["b"] > 1.5 * asked["a"]


def test_the_bandit_tries_everybody_first_and_spreads_calls_in_flight() -> None:
    panel = Panel((A, B, C), (1.0, 5.0, 1.0), policy="bandit")
    one = job(JobKind.IMPLEMENT, "implement:r:0")
    assert assign(panel, one, tree()).name == "b", "the heaviest first"
    assert assign(panel, one, tree(), {}, {"b": 1}).name in "ac"
    assert assign(panel, one, tree(), {}, {"b": 1, "a": 1}).name == "c"
    view = tree(("a", 0.5), ("b", 0.5), ("c", 0.9))
    crowded = assign(panel, one, view, {}, {"a": 50, "b": 50}).name
    assert crowded == "c", "a model that is being asked all the time waits for its results"


def test_an_unknown_price_is_taken_for_the_usual_one_and_a_free_one_is_not_infinite() -> None:
    unknown = {"a": Spending(5, 5, 0.5), "b": Spending(5, 0, 0.0)}
    asked = asked_by_the_bandit([("a", 0.5), ("b", 0.5)], unknown)
    assert abs(asked["a"] - asked["b"]) <= 6
    free = {"a": Spending(5, 5, 0.005), "b": Spending(5, 5, 0.0)}
    asked = asked_by_the_bandit([("a", 0.2), ("b", 0.95)], free)
    assert asked["a"] > asked["b"]


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        (["rules", "queue"], {}, "cannot stand beside"),
        (["rules", "rules"], {}, "named twice"),
        (["rules", "rules=2"], {}, "named twice"),
        (["rules"], {"model_policy": "best"}, "no policy 'best'"),
        (["command:cat"], {"budget_usd": 1.0}, "price is not known"),
    ],
)
def test_models_that_do_not_go_together(models: list[str], options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        proposers_of(models, options)


def test_weights_are_read_off_the_names() -> None:
    panel = proposers_of(["rules=3", "command:cat"], {})
    assert panel.weights == (3.0, 1.0) and [p.name for p in panel.proposers] == ["rules", "command:cat"]
    assert not proposers_of(["queue"], {}), "nobody is asked: the jobs wait"
