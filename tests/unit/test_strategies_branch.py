"""What ``branch``, ``zero_shot`` and the pruners decide, view by view."""

from __future__ import annotations

from typing import Any

import pytest
from strategy_trees import Tree

from kernelgrove import strategies
from kernelgrove.errors import UsageError
from kernelgrove.model import Basis, Ideate, Implement, JobKind, JobState, Outcome, Prune, Repair, Stop
from kernelgrove.strategies.fold import Fold

OK, WRONG = Outcome.OK, Outcome.WRONG_RESULT


def test_round_zero_is_one_translation_of_the_reference() -> None:
    assert Tree().ask() == [Implement(1, 0)]


def test_the_first_ideas_build_on_the_baseline() -> None:
    tree = Tree()
    baseline = tree.written(1, OK, 1.0)
    assert tree.ask() == [Ideate(1, baseline, 3, 1)]


def test_ideas_that_a_source_does_not_give_are_asked_of_the_next() -> None:
    tree = Tree()
    baseline = tree.written(1, OK, 1.0)
    tree.asked(1, baseline, 1, 3)  # gave nothing
    assert tree.ask() == [Ideate(1, None, 3, 1)]


def test_one_request_for_ideas_at_a_time() -> None:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, 2, JobState.LEASED)
    assert tree.ask() == []


def test_it_stops_when_a_round_has_no_ideas_and_says_what_the_last_request_said() -> None:
    tree = Tree()
    baseline = tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, 2)
    tree.asked(1, baseline, 1, 3, JobState.FAILED)
    (stop,) = tree.ask()
    assert isinstance(stop, Stop)
    assert stop.because.startswith("no more ideas in round 1") and "said why" in stop.because


def test_ideas_are_spread_over_the_bank_best_first() -> None:
    tree = Tree()
    tree.written(1, OK, 3.0)
    tree.asked(1, None, 1, 2)
    nodes = [tree.node() for _ in range(2)]
    best = tree.written(nodes[1], OK, 1.0)
    tree.written(nodes[0], OK, 2.0)
    options = {"rounds": 3, "widths": "2,2", "depths": 1, "bank": 2}
    assert tree.ask(**options, spread=0.1) == [Ideate(nodes[1], best, 2, 2)], "it is twice as fast as the next"
    assert tree.ask(**options, spread=0.8) == [Ideate(nodes[1], best, 1, 2)], "an idea each"


def test_the_bank_never_mixes_bases() -> None:
    tree = Tree()
    tree.written(1, OK, 9.0, basis=Basis.MEASURED)
    tree.written(1, OK, 0.001, basis=Basis.IMPORTED)
    assert [i.time_ms for i in Fold(tree.view()).bank(5)] == [9.0]


def test_every_idea_gets_its_depth() -> None:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, 1)
    node = tree.node()
    together = {"rounds": 3, "widths": 1, "depths": "2,3", "together": True}
    assert tree.ask(**together) == [Implement(node, 0), Implement(node, 1)]
    assert tree.ask(slots=1, **together) == [Implement(node, 0)]


def test_an_idea_is_implemented_anew_only_while_nothing_of_it_has_passed() -> None:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, 1, 1, 1)
    node = tree.node(base=1)
    options = {"rounds": 2, "widths": 1, "depths": 2, "repairs": 0}
    assert tree.ask(**options) == [Implement(node, 0)]
    tree.written(node, WRONG)
    assert tree.ask(**options) == [Implement(node, 1)]
    tree.written(node, OK, 2.0)
    assert isinstance(tree.ask(**options)[-1], Stop)


def test_failures_are_repaired_once_and_within_the_quota() -> None:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, 1)
    node = tree.node()
    failed = [tree.written(node, WRONG) for _ in range(3)]
    options = {"rounds": 2, "widths": 1, "depths": 3, "repair_quota": 2}
    assert tree.ask(**options) == [Repair(failed[0]), Repair(failed[1])]
    again = tree.written(node, WRONG, repair_of=failed[0])
    assert tree.ask(**options) == [Repair(failed[1])]
    tree.written(node, OK, 2.0, repair_of=failed[1])
    assert all(isinstance(a, Stop | Prune) for a in tree.ask(**options))
    assert tree.ask(**{**options, "repairs": 2, "repair_quota": 3}) == [Repair(failed[2])]
    tree.written(node, OK, 2.0, repair_of=failed[2])
    assert tree.ask(**{**options, "repairs": 2, "repair_quota": 9}) == [Repair(again)]


def _round_of(ideas: int) -> tuple[Tree, list[int]]:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, ideas)
    return tree, [tree.node() for _ in range(ideas)]


@pytest.mark.parametrize("name", ["branch", "tree_of_thought"])
def test_what_comes_of_one_repair_does_not_take_the_place_of_another_that_had_no_slot(name: str) -> None:
    tree, nodes = _round_of(2)
    options: dict[str, Any] = {"name": name, "rounds": 2, "width": 2, "repairs": 2, "slots": 1}
    options |= {"thoughts": 1} if name == "tree_of_thought" else {"repair_quota": 2}
    one, other = tree.written(nodes[0], WRONG), tree.written(nodes[1], WRONG, program="same")
    assert tree.ask(**options) == [Repair(one)]
    tree.written(nodes[0], WRONG, repair_of=one, program="same", duplicate_of=other)
    assert tree.ask(**options) == [Repair(other)]


def test_repairs_that_failed_do_not_stop_the_others_of_their_step() -> None:
    tree, nodes = _round_of(12)
    options = {"rounds": 2, "widths": 12, "depths": 1, "repairs": 1}
    for node in nodes[:3]:
        tree.written(node, OK, 2.0)
    failed = [tree.written(node, WRONG) for node in nodes[3:]]
    assert tree.ask(**options) == [Repair(i) for i in failed]
    for i in failed[:-1]:
        tree.written(tree.implementations[i].node, WRONG, repair_of=i)
    assert tree.ask(**options) == [Repair(failed[-1])]


def test_ideas_are_all_implemented_anew_before_anything_of_that_is_repaired() -> None:
    tree, nodes = _round_of(2)
    options: dict[str, Any] = {"rounds": 2, "widths": 2, "depths": 2, "repairs": 1, "slots": 1}
    for node in nodes:
        tree.written(node, Outcome.TIMEOUT)
    assert tree.ask(**options) == [Implement(nodes[0], 1)]
    failed = tree.written(nodes[0], WRONG)
    assert tree.ask(**options) == [Implement(nodes[1], 1)]
    tree.written(nodes[1], OK, 2.0)
    assert tree.ask(**options) == [Repair(failed)]


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY, Outcome.WORKER_DIED, Outcome.REJECTED])
def test_what_a_message_cannot_mend_is_not_repaired(outcome: Outcome) -> None:
    tree = Tree()
    tree.written(1, outcome)
    assert not any(isinstance(a, Repair) for a in tree.ask())


def test_the_same_failed_program_is_repaired_once() -> None:
    tree = Tree()
    tree.asked(1, None, 1, 1)
    node = tree.node()
    tree.written(1, OK, 1.0)
    first = tree.written(node, WRONG, program="same")
    tree.written(node, WRONG, program="same", duplicate_of=first)
    assert tree.ask(rounds=2, widths=1, depths=2) == [Repair(first)]


def test_a_round_waits_for_its_last_evaluation() -> None:
    tree = Tree()
    tree.written(1, None)
    tree.job(JobKind.EVALUATE, JobState.LEASED, 1, 1)
    assert tree.ask() == []


def test_an_evaluation_that_was_given_up_holds_nothing_up() -> None:
    tree = Tree()
    tree.written(1, None)
    tree.job(JobKind.EVALUATE, JobState.DEAD, 1, 1)
    assert tree.ask() == [Ideate(1, None, 3, 1)]


def _two_rounds(slow: float) -> Tree:
    tree = Tree()
    tree.written(1, OK, 1.0)
    tree.asked(1, None, 1, 2)
    tree.written(tree.node(), OK, 0.9)
    tree.written(tree.node(base=1), OK, slow)
    return tree


def test_the_hopeless_and_those_without_gain_are_pruned_with_figures() -> None:
    options = {"rounds": 2, "widths": 2, "depths": 1, "bank": 1, "steps": 1}
    prunes = [a for a in _two_rounds(9.0).ask(**options) if isinstance(a, Prune)]
    assert [(p.node, p.because) for p in prunes] == [(3, "hopeless: 9 ms, 10.0 times the best (0.9 ms)")]
    prunes = [a for a in _two_rounds(1.5).ask(**options) if isinstance(a, Prune)]
    assert [(p.node, p.because) for p in prunes] == [(3, "no improvement: 1.5 ms, and its base takes 1 ms")]


def test_what_is_in_the_bank_is_not_pruned_and_pruning_can_be_turned_off() -> None:
    options = {"rounds": 2, "widths": 2, "depths": 1}
    assert not [a for a in _two_rounds(9.0).ask(**options, bank=3) if isinstance(a, Prune)]
    assert not [a for a in _two_rounds(9.0).ask(**options, bank=1, prune=False) if isinstance(a, Prune)]


def test_equal_failures_prune_a_node_and_mixed_ones_do_not() -> None:
    for last, pruned in ((WRONG, True), (Outcome.TIMEOUT, False)):
        tree = Tree()
        tree.written(1, OK, 1.0)
        tree.asked(1, None, 1, 1)
        node = tree.node()
        for outcome in (WRONG, WRONG, last):
            tree.written(node, outcome)
        actions = tree.ask(rounds=2, widths=1, depths=3, repairs=0)
        expected = [Prune(node, "same failure: all 3 implementations ended in wrong_result")] if pruned else []
        assert [a for a in actions if isinstance(a, Prune)] == expected


def test_zero_shot_asks_for_its_samples_and_stops_when_they_are_judged() -> None:
    tree = Tree()
    assert tree.ask(name="zero_shot", samples=2) == [Implement(1, 0), Implement(1, 1)]
    tree.written(1, OK, 1.0)
    tree.written(1, None)
    tree.job(JobKind.EVALUATE, JobState.QUEUED, 1, 2)
    assert tree.ask(name="zero_shot", samples=2) == []
    tree.jobs.pop()
    assert tree.ask(name="zero_shot", samples=2) == [Stop("all 2 samples are judged")]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("brunch", {}, "no strategy 'brunch': did you mean 'branch'? There are: branch, evolve, mcts, refine"),
        ("xyzzy", {}, "no strategy 'xyzzy'. There are: branch, evolve"),
        ("branch", {"round": 2}, "did you mean 'rounds'? There are: rounds, widths"),
        ("zero_shot", {"rounds": 2}, "has no option 'rounds'. There are: samples"),
        ("branch", {"rounds": 0}, "rounds=0 of strategy 'branch' must be a whole number from 1"),
        ("branch", {"rounds": True}, "rounds=True"),
        ("branch", {"widths": "3,,4"}, "widths=3,,4 of strategy 'branch' must be whole numbers from 1"),
        ("branch", {"widths": []}, "must be whole numbers from 1"),
        ("branch", {"hopeless": "nan"}, "a number above 1"),
        ("branch", {"prune": "maybe"}, "true or false"),
        ("branch", {"top-k": 3, "bank": 4}, "the same option"),
    ],
)
def test_what_will_not_do_is_said_in_a_sentence(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        strategies.make(name, options)
    assert says in str(caught.value)


def test_options_are_read_as_typed_or_parsed() -> None:
    typed = strategies.make("branch", {"width": "3,4", "top-k": "2", "prune": "off", "rounds": "3"})
    parsed = strategies.make("branch", {"widths": [3, 4], "bank": 2, "prune": False, "rounds": 3})
    assert vars(typed) == vars(parsed)
    assert strategies.canonical("branch", {"top-k": 2, "width": 3}) == {"bank": 2, "widths": 3}


def test_help_lists_every_option_with_its_default() -> None:
    text = strategies.describe()
    for name, options in strategies.OPTIONS.items():
        assert name in text
        for option in options:
            assert f"{option.name}={option.shown}" in text
            assert option.read(option.shown) == option.default, "the default shown is the default meant"
