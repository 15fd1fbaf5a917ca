"""Ideas of the rules: distinct, relative to their base, carried out as said; repairs that ask for less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rules_requests import RULES, Asker, attempt, body, of_library, of_text, search
from rules_texts import TEXTS

from kernelgrove.engine.proposers.rules.choose import matching
from kernelgrove.engine.proposers.rules.facts import facts
from kernelgrove.engine.proposers.rules.ideas import catalogue
from kernelgrove.engine.proposers.rules.plan import HEADER, Plan, parse
from kernelgrove.errors import ProposerError, UsageError
from kernelgrove.model import Idea, JobKind
from kernelgrove.problems.problem import library

CATEGORIES = {"fusion", "memory", "occupancy", "tiling", "algorithm", "launch"}


@pytest.mark.parametrize("name", ["rms_norm", "softmax", "layer_norm", "group_norm", "log_softmax"])
def test_a_direct_translation_can_be_improved_in_a_dozen_ways(name: str) -> None:
    ideas = Asker(of_library(name)).ideas(40)
    assert len(ideas) >= 12
    assert len({idea.text for idea in ideas}) == len(ideas)
    for idea in ideas:
        assert idea.category in CATEGORIES and 20 < len(idea.text) < 200
        assert idea.rationale.endswith((".", "!")) and len(idea.rationale) > 30


@pytest.mark.parametrize("name", [name for name in library() if not name.startswith("matmul")])
def test_a_default_search_gets_at_least_twenty_programs(name: str) -> None:
    programs = search(Asker(of_library(name)))
    assert len(programs) == 46 and len(set(map(body, programs))) >= 30


@pytest.mark.parametrize("name", ["rms_norm", "relu", "conv2d_relu_bias"])
def test_variants_of_an_idea_are_different_programs_and_none_is_the_base(name: str) -> None:
    asker = Asker(of_library(name))
    base = asker.code()
    for idea in asker.ideas(20, base):
        given = attempt(Idea("the base"), base)
        made = [body(asker.code(idea=idea, base=given, variant=variant)) for variant in range(4)]
        assert len({*made, body(base)}) == 5, idea.text


def test_the_same_request_gets_the_same_answer_from_another_process_too() -> None:
    asker = Asker(of_library("layer_norm"))
    first = search(asker, widths=(2, 2), depths=(2, 2))
    assert first == search(Asker(of_library("layer_norm")), widths=(2, 2), depths=(2, 2))
    assert parse(first[0]) == Plan()


def test_ideas_already_tried_are_not_given_again_and_new_kinds_come_first() -> None:
    asker = Asker(of_library("softmax"))
    first = asker.ideas(4)
    asker.tried += [attempt(idea) for idea in first]
    second = asker.ideas(4)
    assert not {i.text for i in first} & {i.text for i in second}
    everything = asker.ideas(100)
    asker.tried += [attempt(idea) for idea in everything]
    last = asker.ask(JobKind.IDEATE, count=3, tried=tuple(asker.tried))
    assert last.ideas == () and "no more ideas" in last.note


def test_an_idea_is_a_change_of_its_base() -> None:
    asker = Asker(of_library("softmax"))
    looped = asker.code(idea=next(i for i in asker.ideas(40) if "online softmax" in i.text))
    assert (plan := parse(looped)) is not None and plan.style == "loop" and plan.one_pass == "lane"
    larger = next(i for i in asker.ideas(40, looped) if i.text.startswith("Use tiles larger"))
    changed = parse(asker.code(idea=larger, base=attempt(Idea("x"), looped)))
    assert changed is not None and changed.tile > plan.tile and changed.one_pass == "lane"


def test_numbers_of_the_target_are_in_the_words_and_the_code() -> None:
    for target, sms in (("H100", 132), ("T4", 40)):
        asker = Asker(of_library("rms_norm"), target=target)
        idea = next(i for i in asker.ideas(40) if "persistent grid" in i.text)
        assert f"{sms} SMs" in idea.text and f"for each of {sms} SMs" in asker.code(idea=idea)
    with pytest.raises(UsageError, match="H1000"):
        Asker(of_library("rms_norm"), target="H1000").code()


def test_few_long_rows_are_split() -> None:
    source = (
        TEXTS["layer norm over three dimensions"][0]
        .replace("torch.randn(3, 4, 9, 14)", "torch.randn(4, 64, 256, 256)")
        .replace("[(4, 9, 14)]", "[(64, 256, 256)]")
    )
    asker = Asker(of_text("long", source))
    assert "_partial" in asker.code() and any("Split each row" in idea.text for idea in asker.ideas(20))


def test_a_foreign_base_and_a_reworded_idea_are_understood() -> None:
    asker = Asker(of_library("softmax"))
    foreign = attempt(Idea("somebody's"), "import torch\n\nclass ModelNew: ...\n")
    ideas = asker.ask(JobKind.IDEATE, count=3, base=foreign).ideas
    assert len(ideas) == 3
    reworded = Idea("Launch a persistent grid of programs which loop over rows")
    plan = parse(asker.code(idea=reworded, base=foreign))
    assert plan is not None and plan.persistent > 0
    answer = asker.ask(JobKind.IMPLEMENT, idea=Idea("Rewrite everything in assembler by hand"))
    assert answer.code is None and "not its own" in answer.note


@pytest.mark.parametrize("outcome", ["compile_error", "out_of_memory", "wrong_result", "runtime_error"])
def test_repairs_go_on_to_the_plainest_program_and_then_say_so(outcome: str) -> None:
    asker = Asker(of_library("rms_norm"))
    rich = asker.ideas(40)[0]
    code = asker.code(idea=rich)
    seen = [body(code)]
    for _ in range(30):
        answer = asker.ask(JobKind.REPAIR, failed=attempt(rich, code, outcome, "no such luck"))
        if answer.code is None:
            assert "nothing simpler" in answer.note
            break
        code = answer.code
        assert body(code) != seen[-1]
        seen.append(body(code))
    else:
        raise AssertionError("repairs never end")
    assert len(seen) >= 2


def test_a_failed_program_of_somebody_else_is_replaced_by_the_direct_translation() -> None:
    asker = Asker(of_library("relu"))
    failed = attempt(Idea("x"), "class ModelNew:\n    pass\n", "runtime_error", "TypeError")
    assert asker.ask(JobKind.REPAIR, failed=failed).code == asker.code()


def test_a_header_says_what_differs_and_nothing_else_is_believed() -> None:
    plan = Plan(style="loop", tile=512, hints=True)
    assert parse(plan.header() + "\nimport torch\n") == plan and Plan().header() == HEADER + "{}"
    for bad in ('{"tile": 1000}', '{"tile": "2048"}', '{"style": "magic"}', '{"unknown": 1}', "{", "[]"):
        assert parse(HEADER + bad) is None


def test_matching_needs_a_third_of_the_words() -> None:
    asker = Asker(of_library("rms_norm"))
    from kernelgrove.engine.proposers.rules.analysis import analyse

    moves = catalogue(facts(analyse(asker.pair[1]), "H100"), Plan())
    assert matching(moves, moves[3].idea.text) is moves[3]
    assert matching(moves, "something else entirely") is None and matching([], "tiles") is None


def test_what_rules_cannot_do_is_said() -> None:
    asker = Asker(of_library("relu"))
    assert "cuda" in RULES.propose(asker.request(JobKind.IMPLEMENT, backend="cuda")).note
    with pytest.raises(ProposerError, match="does not rate") as caught:
        asker.ask(JobKind.RATE)
    assert not caught.value.retry
    request = asker.request(JobKind.IMPLEMENT)
    broken = replace(request.instance, source="class Model:\n    pass\n")
    assert "cannot be built" in RULES.propose(replace(request, instance=broken)).note
