"""Ids, the identity of programs, and column types."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.errors import UsageError
from kernelgrove.storage import ids
from kernelgrove.storage.columns import clean, dumps
from kernelgrove.storage.programs import normalise, program_hash


@given(st.sampled_from(sorted(ids.KINDS)), st.integers(1, 10**17))
def test_ids_go_there_and_back(kind: str, number: int) -> None:
    assert ids.parse(ids.show(kind, number)) == (kind, number)
    assert ids.parse(f" {ids.show(kind, number).upper()} ") == (kind, number)


@pytest.mark.parametrize("text", ["", "s", "1", "s0", "s-1", "x1", "s1 n2", "s1.5", "n٣", "s" + "9" * 30])
def test_nonsense_is_told_what_an_id_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"s1 \(search\).*i3 \(implementation\)"):
        ids.parse(text)


def test_the_wrong_kind_is_named() -> None:
    assert ids.parse_as("s", "s4") == 4
    with pytest.raises(UsageError, match=r"i4 is an implementation.*s1"):
        ids.parse_as("s", "i4")


CODE = "import torch\n\nclass ModelNew:\n    def f(self, x):\n        return x + 1\n"


@pytest.mark.parametrize(
    "same",
    [
        CODE.replace("\n", "\r\n"),
        CODE + "\n\n\n",
        "# a remark\n" + CODE.replace("x + 1", "x+1  # here too"),
        CODE.replace("    ", "  "),
        CODE.replace("f(self, x)", "f( self,\n\t  x )"),
        CODE.replace("self, x", "self, \\\n   x"),
        CODE.replace("import torch\n", "import torch  # (\n\n\t\n"),
    ],
)
def test_formatting_and_comments_do_not_make_a_program(same: str) -> None:
    assert program_hash(same) == program_hash(CODE)


@pytest.mark.parametrize(
    "other",
    [CODE.replace("1", "2"), CODE.replace("x + 1", "x - 1"), CODE.replace("ModelNew", "modelnew"), CODE + "pass\n"],
)
def test_what_runs_differently_is_another_program(other: str) -> None:
    assert program_hash(other) != program_hash(CODE)


def test_what_cannot_be_told_apart_is_compared_as_text() -> None:
    assert normalise("def f(:  \r\n  x # why\n\n") == "def f(:\n  x # why"
    assert program_hash("def f(: # a") != program_hash("def f(: # b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'a # b'", "x = 'a # c'"),
        ("x = '''a\n  b'''", "x = '''a\n b'''"),
        ("x = r'\\' # '", "x = r'\\' # b'"),
        ('x = f"{d["a # b"]}"', 'x = f"{d["a # c"]}"'),
        ("x = 1e-5", "x = 1e - 5"),
        ("x = a * * b", "x = a ** b"),
        ("x = b 'a'", "x = b'a'"),
        ("if a:\n  b\nc", "if a:\n  b\n  c"),
        ("x = 'unended # a", "x = 'unended # b"),
        ("(y : = 1)", "(y := 1)"),
    ],
)
def test_what_may_mean_something_else_is_another_program(one: str, other: str) -> None:
    assert program_hash(one) != program_hash(other)


PYTHON_FILES = sorted(Path(ast.__file__).parent.glob("[a-m]*.py"))[::3] + sorted(Path(__file__).parent.glob("*.py"))


def test_the_normal_form_is_the_same_program() -> None:
    """Real source, in its normal form, parses to the same tree: no two different programs have one form."""
    for path in PYTHON_FILES:
        code = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ast.dump(ast.parse(normalise(code))) == ast.dump(ast.parse(code)), path


@pytest.mark.parametrize(
    "code",
    [
        "x=" + "-" * 100_000 + "1",
        "x=" + "+".join(["1"] * 100_000),
        "x=" + "(" * 5000,
        "\x00",
        "x='\ud800'",
        "1" * 600_000,
    ],
    ids=["deep", "long", "open", "NUL", "surrogate", "huge"],
)
def test_hostile_source_has_a_hash(code: str) -> None:
    assert len(program_hash(code)) == 64


def test_a_candidates_bad_escapes_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program_hash(r"x = '\d'")


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_can_be_stored(text: str) -> None:
    done = clean(text)
    assert "\x00" not in done and done.encode().decode() == done and clean(done) == done
    assert json.loads(dumps({"x": text})) is not None


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_stored_json_is_strict(value: object) -> None:
    json.loads(dumps(value), parse_constant=lambda name: pytest.fail(f"{name} in the file"))


def test_json_of_what_python_adds() -> None:
    value = MappingProxyType({"t": (1, 2), "s": frozenset({2, 1}), "p": Path("a/b"), "i": float("-inf")})
    assert json.loads(dumps(value)) == {"t": [1, 2], "s": [1, 2], "p": "a/b", "i": None}
    with pytest.raises(TypeError, match="object cannot be stored"):
        dumps({"x": object()})
