"""The language itself: what parses, what it prints as, and how a wrong query is answered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.errors import UsageError
from kernelgrove.storage.query import Wanted, parse, translate, write
from kernelgrove.storage.query.families import families
from kernelgrove.storage.query.parser import DEEPEST, STAGES
from kernelgrove.storage.query.syntax import All, Among, Any, Compare, Name, Not, Place, Query, Stage, Value

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
names = st.sampled_from("speedup outcome idea device best count created".split()).map(Name)
values = st.one_of(texts, st.none()).map(Value)
leaves = st.one_of(
    st.builds(Compare, names, st.sampled_from("= != < <= > >= ~".split()), values),
    st.builds(Among, names, st.lists(values, min_size=1, max_size=3).map(tuple)),
    st.builds(Place, st.sampled_from(["under", "above"]), st.sampled_from(["n1", "i23"]).map(Value)),
)


def _nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    some = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(All, some), st.builds(Any, some))


fields = st.lists(names, min_size=1, max_size=3).map(tuple)
maybe = st.one_of(st.just(()), fields)
stages = st.one_of(
    st.builds(Stage, st.just("best"), st.one_of(st.none(), st.integers(1, 99)), st.one_of(st.none(), names), maybe),
    st.builds(lambda by: Stage("repeated", names=by), fields),
    st.builds(lambda by: Stage("count", names=by), maybe),
    st.builds(lambda by: Stage("cost", names=by), maybe),
    st.builds(lambda figure, by: Stage("stats", figure=figure, names=by), names, maybe),
    st.builds(lambda value: Stage("lost", value=value), values),
    st.just(Stage("lineage")),
)
queries = st.builds(
    Query, st.one_of(st.none(), st.recursive(leaves, _nested, max_leaves=8)), st.lists(stages, max_size=3).map(tuple)
)


@given(queries)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back_the_same(query: Query) -> None:
    assert parse(write(query)) == query


WORDS = [
    *STAGES,
    *"and or not in under above by per on none ( ) , | = != ~ < 'a' \" \\ speedup 3 n12 outcome ok".split(),
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)))
@settings(max_examples=600, deadline=None)
def test_any_text_is_answered_or_refused_in_a_sentence(text: str) -> None:
    try:
        translate(parse(text), Wanted())
    except UsageError as error:
        assert "\n" not in str(error) and str(error).endswith((".", "?"))


@pytest.mark.parametrize(
    "text, where, says",
    [
        ("speedp > 1.5", "column 1, at 'speedp'", "Did you mean speedup?"),
        ("outcome = ok and idae ~ x", "column 18, at 'idae'", "Did you mean idea?"),
        ("outcome = okay", "column 11, at 'okay'", "Did you mean ok?"),
        ("speedup > fast", "column 11, at 'fast'", "speedup is a number"),
        ("speedup", "column 8, at its end", "a comparison is missing"),
        ("(outcome = ok", "column 14, at its end", "')' is missing"),
        ("idea ~ 'split", "column 8", "this string has no end"),
        ("outcome = ok best per problem", "column 14, at 'best'", "Put | before it."),
        ("outcome = ok and best per problem", "column 18, at 'best'", "Put | before best."),
        ("node > n3", "column 1, at 'node'", "= and != only"),
        ("node = i3", "column 8, at 'i3'", "an id like n12"),
        ("under s1", "column 7, at 's1'", "Write n12 or i34."),
        ("| worst per problem", "column 3, at 'worst'", "a stage was expected"),
        ("count by model | best", "column 18, at 'best'", "nothing can follow count"),
        ("best by idea", "column 9, at 'idea'", "no figure that can be ranked"),
        ("created > tomorrow", "column 11, at 'tomorrow'", "Write 2026-01-31"),
        ("outcome = ok; drop", "column 13, at ';'", "quotes"),
        ("round ~ 3", "column 1, at 'round'", "~ looks in text"),
        ("outcome = and", "column 11, at 'and'", "Put it in quotes."),
        ("idea = ok | cost", "column 1, at 'idea'", "calls and implementations have no field"),
    ],
)
def test_a_wrong_query_is_told_where(text: str, where: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        translate(parse(text), Wanted())
    assert where in str(caught.value) and says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "not " * 5000, "a = 1 or " * 2000 + "a = 1", "a in (" + "1," * 9000, "x" * 30_000, "| best " * 30],
)
def test_what_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_nesting_has_room() -> None:
    assert parse("(" * (DEEPEST - 1) + "a = 1" + ")" * (DEEPEST - 1)) == parse("a = 1")


def test_and_binds_tighter_than_or() -> None:
    assert (
        parse("a = 1 or b = 2 and c = 3") == parse("a = 1 or (b = 2 and c = 3)") != parse("(a = 1 or b = 2) and c = 3")
    )


@pytest.mark.parametrize(
    "source, found",
    [
        ("def forward(x): return F.layer_norm(x, (8,))", ("reduction",)),
        ("def forward(a, b): return (a @ b).sum(-1)", ("reduction", "matmul")),
        ("def forward(x): return torch.relu(x)\ndef get_inputs(): return [torch.sum(y)]", ("elementwise",)),
        ("no python ( but x.cumsum(0)", ("scan",)),
    ],
)
def test_a_family_is_read_off_the_operators(source: str, found: tuple[str, ...]) -> None:
    assert families(source) == found
