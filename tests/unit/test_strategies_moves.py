"""What ``tree_of_thought``, ``mcts``, ``evolve`` and ``refine`` decide, and when a repair is worth it, view by view."""

from __future__ import annotations

from typing import Any

import pytest
from strategy_trees import Tree

from kernelgrove.model import Ideate, Implement, JobKind, JobState, Outcome, Prune, Repair, Stop

OK, WRONG, BROKEN = Outcome.OK, Outcome.WRONG_RESULT, Outcome.COMPILE_ERROR


# ------------------------------------------------------------------------------------------- tree_of_thought

THINK: dict[str, Any] = {"name": "tree_of_thought", "rounds": 2, "breadth": 3, "thoughts": 1, "leaves": 1}


def _thoughts(*ratings: float | None) -> tuple[Tree, int, list[int]]:
    """A translation that passed, and thoughts on it with these ratings."""
    tree = Tree()
    base = tree.written(1, OK, 1.0)
    tree.asked(1, base, 1, len(ratings))
    return tree, base, [tree.node(base=base, rating=rating) for rating in ratings]


def test_thoughts_are_rated_before_any_becomes_code() -> None:
    tree, _, nodes = _thoughts(None, None, None)
    (rate,) = tree.ask(**THINK)
    assert type(rate).__name__ == "Rate" and rate.nodes == tuple(nodes)


def test_the_best_rated_becomes_code_and_the_others_keep_their_rating_as_the_reason() -> None:
    tree, _, nodes = _thoughts(0.2, 0.9, 0.5)
    tree.job(JobKind.RATE, JobState.DONE, None, None, nodes=nodes)
    actions = tree.ask(**THINK)
    assert Implement(nodes[1]) in actions and sum(isinstance(a, Implement) for a in actions) == 1
    reasons = {a.node: a.because for a in actions if isinstance(a, Prune)}
    assert set(reasons) == {nodes[0], nodes[2]} and reasons[nodes[0]].startswith("rated 0.20: ")
    assert not [a for a in tree.ask(**THINK, prune=False) if isinstance(a, Prune)]


def test_the_best_thoughts_are_thought_further() -> None:
    tree, base, nodes = _thoughts(0.2, 0.9, 0.5)
    tree.job(JobKind.RATE, JobState.DONE, None, None, nodes=nodes)
    further = {**THINK, "thoughts": 2, "keep": 2}
    assert tree.ask(**further) == [Ideate(nodes[1], base, 3, 1), Ideate(nodes[2], base, 3, 1)]
    assert tree.ask(**further, search="dfs") == [Ideate(nodes[1], base, 3, 1)], "the best one down first"


def test_where_nobody_rates_every_idea_is_carried_out() -> None:
    tree, _, nodes = _thoughts(None, None, None)
    tree.job(JobKind.RATE, JobState.FAILED, None, None, nodes=nodes)
    assert tree.ask(**THINK) == [Implement(n) for n in nodes]


def test_what_beats_its_base_is_carried_out_once_more() -> None:
    for time, again in ((0.5, True), (1.5, False)):
        tree, _, (node,) = _thoughts(0.9)
        tree.job(JobKind.RATE, JobState.DONE, None, None, nodes=[node])
        tree.written(node, OK, time)
        assert (Implement(node, 1) in tree.ask(**THINK, depth=2)) is again


# ------------------------------------------------------------------------------------------------------ mcts


def _two_children() -> tuple[Tree, list[int], list[int]]:
    tree = Tree()
    base = tree.written(1, OK, 1.0)
    tree.written(1, OK, 1.01)
    nodes, programs = [], []
    for time in (0.5, 0.501):
        tree.asked(1, base, 1)
        nodes.append(tree.node(base=base))
        programs.append(tree.written(nodes[-1], OK, time))
    return tree, nodes, programs


def test_it_goes_down_to_what_is_fastest() -> None:
    tree, nodes, programs = _two_children()
    assert tree.ask(name="mcts", explore=0, at_once=1, depth=1) == [Ideate(nodes[0], programs[0], 1, 2)]


@pytest.mark.parametrize("options", [{"explore": 0.03}, {"policy": "thompson"}])
def test_what_is_under_way_counts_as_a_loss(options: dict[str, Any]) -> None:
    tree, nodes, programs = _two_children()
    for _ in range(4):
        tree.asked(nodes[0], programs[0], 2, state=JobState.LEASED)
    (idea,) = tree.ask(name="mcts", at_once=5, depth=1, **options)
    assert isinstance(idea, Ideate) and idea.parent != nodes[0], "four on the way there are enough"


def test_it_ends_with_its_ideas() -> None:
    tree, _, _ = _two_children()
    assert tree.ask(name="mcts", ideas=2, depth=1) == [Stop("all 2 ideas were asked for")]


# ---------------------------------------------------------------------------------------------------- evolve


def _bred(*texts: str) -> tuple[Tree, list[int]]:
    tree = Tree()
    base = tree.written(1, OK, 1.0)
    tree.written(1, OK, 0.9)
    nodes = []
    for text in texts:
        tree.asked(1, base, 1)
        nodes.append(tree.node(base=base, says=text))
    tree.written(nodes[0], OK, 0.8)
    return tree, nodes


def test_an_idea_too_near_to_a_tried_one_is_dropped_and_another_is_asked_for() -> None:
    tree, nodes = _bred("Use 8 warps for each row of the input", "use 8 warps for each row of input")
    actions = tree.ask(name="evolve", at_once=1, depth=1)
    (prune,) = [a for a in actions if isinstance(a, Prune)]
    assert prune.node == nodes[1] and "Use 8 warps for each row" in prune.because
    assert not any(isinstance(a, Implement) for a in actions) and any(isinstance(a, Ideate) for a in actions)
    assert Implement(nodes[1]) in tree.ask(name="evolve", novelty=1)


def test_ideas_that_differ_in_a_number_are_different() -> None:
    tree, nodes = _bred("Use 8 warps for each row of the input", "Use 4 warps for each row of the input")
    assert Implement(nodes[1]) in tree.ask(name="evolve")


def test_crossover_draws_on_a_second_parent() -> None:
    tree, _ = _bred("Use 8 warps")
    (idea,) = tree.ask(name="evolve", mutation=0, at_once=1, depth=1)
    assert isinstance(idea, Ideate) and len(idea.others) == 1 and idea.others[0] != idea.base
    (idea,) = tree.ask(name="evolve", crossover=0, at_once=1, depth=1)
    assert isinstance(idea, Ideate) and idea.others == ()


# ---------------------------------------------------------------------------------------------------- refine


def _chain(*times: float) -> tuple[Tree, list[int]]:
    """A chain of ideas, each for the program before it."""
    tree = Tree()
    programs = [tree.written(1, OK, 1.0)]
    for time in times:
        parent = tree.implementations[programs[-1]].node
        tree.asked(parent, programs[-1], 1)
        programs.append(tree.written(tree.node(parent, programs[-1]), OK, time))
    return tree, programs


REFINE: dict[str, Any] = {"name": "refine", "chains": 1, "stuck": 2}


def test_a_slower_step_may_lead_on_and_a_stuck_chain_goes_back_to_its_best() -> None:
    tree, programs = _chain(0.5, 0.6)
    (idea,) = tree.ask(**REFINE)
    assert isinstance(idea, Ideate) and idea.base == programs[-1]
    tree, programs = _chain(0.5, 0.6, 0.7)
    (idea,) = tree.ask(**REFINE)
    assert isinstance(idea, Ideate) and idea.base == programs[1]


def test_a_chain_that_stays_stuck_gives_way_to_a_new_one() -> None:
    tree, _ = _chain(0.5, 0.6, 0.7, 0.8, 0.9)
    prune, start = tree.ask(**REFINE)
    assert isinstance(prune, Prune) and prune.because == "its chain is given up: no faster program in 4 turns"
    assert start == Implement(1, 1)
    assert tree.ask(**REFINE, turns=6) == [Stop("all 1 chains had their turns")]


# --------------------------------------------------------------------------------------------------- repairs


def test_a_repair_is_asked_for_while_repairs_do_as_well_as_first_tries() -> None:
    tree = Tree()
    base = tree.written(1, OK, 1.0)
    for _ in range(12):
        tree.asked(1, base, 1)
        node = tree.node(base=base)
        tree.written(node, WRONG, repair_of=tree.written(node, BROKEN))
    tree.asked(1, base, 1)
    failed = tree.written(tree.node(base=base), BROKEN)
    options: dict[str, Any] = {"name": "evolve", "starts": 1, "repairs": 1, "novelty": 1}
    assert Repair(failed) in tree.ask(**options), "first tries do no better"
    for _ in range(12):
        tree.asked(1, base, 1)
        tree.written(tree.node(base=base), OK, 2.0)
    assert Repair(failed) not in tree.ask(**options), "none of twelve repairs passed, and half of the first tries did"
