"""Reading answers: a corpus of what models send, and properties that hold whatever they send."""

from __future__ import annotations

import ast
import re

import pytest
from answers_corpus import CODE, IDEAS, RATINGS, REFUSED, P, fence
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.engine.answers import Unreadable, contract, read
from kernelgrove.engine.answers.code import program
from kernelgrove.engine.answers.ideas import CATEGORIES, ideas
from kernelgrove.engine.answers.ratings import ratings
from kernelgrove.model import Idea, Instance, JobKind, Problem
from kernelgrove.ports import Attempt, ProposalRequest


def test_the_corpus_is_large_enough() -> None:
    assert len(CODE) + len(REFUSED) + len(IDEAS) + len(RATINGS) >= 150
    assert len(CODE) + len(REFUSED) >= 100


@pytest.mark.parametrize("name", CODE)
def test_a_program_comes_out_whole(name: str) -> None:
    answer, wanted = CODE[name]
    found = program(answer)
    assert found.strip("\n") == wanted.strip("\n")
    assert found.endswith("\n") and not found.endswith("\n\n")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_program_is_refused_with_the_reason(name: str) -> None:
    answer, reason = REFUSED[name]
    with pytest.raises(Unreadable) as caught:
        program(answer)
    assert re.search(reason, str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", IDEAS)
def test_ideas_come_out(name: str) -> None:
    answer, count, wanted = IDEAS[name]
    if not wanted:
        with pytest.raises(Unreadable):
            ideas(answer, count)
        return
    found, note = ideas(answer, count)
    assert [idea.text for idea in found] == wanted
    assert all(idea.category in CATEGORIES for idea in found)
    assert bool(note) == (len(wanted) < count)


def test_reasons_and_categories_of_a_list_are_kept() -> None:
    answer, count, _ = IDEAS["list with reasons below"]
    (first, second), _ = ideas(answer, count)
    assert (first.rationale, first.category) == ("one read", "fusion")
    assert second == Idea("Use larger tiles", "", "other")
    found, _ = ideas(IDEAS["as asked"][0], 2)
    assert found[0] == Idea("Fuse the passes", "one read", "fusion")


@pytest.mark.parametrize("name", RATINGS)
def test_ratings_come_out(name: str) -> None:
    answer, count, wanted = RATINGS[name]
    if isinstance(wanted, str):
        with pytest.raises(Unreadable, match=wanted):
            ratings(answer, count)
    else:
        assert ratings(answer, count) == pytest.approx(wanted)


# ---------------------------------------------------------------------------------------------- properties

#: Text with what matters here more often than chance would have it.
NOISE = st.lists(
    st.one_of(
        st.sampled_from(
            ["```", "~~~", "```python\n", "\n", "\r\n", "<think>", "</think>", "class ModelNew", ":", "    ", "\t",
             '"', "'", "{", "}", "[", "]", '"ideas"', '"text": ', ",", "1. ", "- ", "\\n", "def f(", ")", "“", "”",
             "\ufeff",
             "import torch\n", "return x\n", "nan", "7/10", "&lt;", "# ", P, fence(P)]
        ),
        st.text(max_size=12),
    ),
    max_size=30,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(NOISE)
def test_anything_is_read_or_refused_and_never_more(answer: str) -> None:
    """No input crashes it, and whatever comes out holds: it parses, it defines ModelNew, it stands in the answer."""
    try:
        code = program(answer)
    except Unreadable as refused:
        assert str(refused)
    else:
        tree = ast.parse(code)
        names = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
        assert "ModelNew" in names or "ModelNew" in code
    for read_it in (lambda: ideas(answer, 3), lambda: ratings(answer, 2)):
        try:
            read_it()
        except Unreadable as refused:
            assert str(refused)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="`~<>", exclude_categories=["Cs", "Cc"]), max_size=200))
def test_prose_around_a_fenced_program_changes_nothing(prose: str) -> None:
    assert program(f"{prose}\n{fence(P)}\n{prose}") == P + "\n"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_program_that_is_cut_is_never_taken_for_whole(cut: int, newline: str) -> None:
    """What is left of a fenced program, cut anywhere before its last statement, lacks a line or is refused."""
    whole = P.replace("return x", "y = x + 1\n        return y")
    text = fence(whole)[: 10 + cut].replace("\n", newline)
    try:
        found = program(text)
    except Unreadable:
        return
    assert found.strip() == whole[: len(found.strip())].strip()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abcdefgh xyz", min_size=5, max_size=40), st.sampled_from(CATEGORIES)), min_size=1, max_size=6
    )
)
def test_ideas_in_json_round_trip(given_ideas: list[tuple[str, str]]) -> None:
    import json

    document = {
        "ideas": [{"text": f"idea {i} {t}", "rationale": "r", "category": c} for i, (t, c) in enumerate(given_ideas)]
    }
    found, note = ideas(json.dumps(document), len(given_ideas))
    assert [idea.category for idea in found] == [c for _, c in given_ideas] and not note


def test_what_is_asked_for_is_what_is_read() -> None:
    problem = Problem("p", "x = 1\n")
    instance = Instance("p", problem.digest, "given", "x = 1\n", "given", "x = 1\n")
    rated = (Attempt(Idea("a"), None, None, "", None, None, None),) * 2
    for kind, answer, more in (
        (JobKind.IDEATE, IDEAS["as asked"][0], {"count": 2}),
        (JobKind.RATE, '{"ratings": [1, 2]}', {"tried": rated}),
        (JobKind.REPAIR, fence(P), {}),
        (JobKind.IMPLEMENT, fence(P), {}),
    ):
        request = ProposalRequest(kind, "k", problem, instance, "H100", "triton", 0, **more)  # type: ignore[arg-type]
        proposal = read(request, answer)
        wanted = contract(request)
        assert (wanted.schema is not None) == (kind in (JobKind.IDEATE, JobKind.RATE))
        assert wanted.document()["answer"] == ("json" if wanted.schema else "python")
        assert proposal.ideas or proposal.code or proposal.ratings
