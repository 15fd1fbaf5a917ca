"""``kernelgrove query`` as it is typed: options, formats, exit codes; and docs/queries.md says what is so."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest
import query_grove

from kernelgrove.cli import run
from kernelgrove.storage.query import Wanted, parse, translate
from kernelgrove.storage.query.relations import RELATIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queries.md"


@pytest.fixture(scope="module")
def grove(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(query_grove.build(tmp_path_factory.mktemp("grove") / "grove.db"))


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(["query", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_format_holds_the_same_rows(grove: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("outcome = ok", "--columns", "implementation,speedup,idea", "--sort", "speedup:desc", "--limit", "2")
    wanted = [["i8", "measured"], ["i7", "measured"]]
    _, text, _ = typed(capsys, *asked, "--db", grove, "--json")
    rows = json.loads(text)
    assert [[row["implementation"], row["basis"]] for row in rows] == wanted and rows[0]["speedup"] == 10.0
    _, text, _ = typed(capsys, *asked, "--db", grove, "--format", "csv")
    assert [row[:2] for row in csv.reader(io.StringIO(text))] == [["implementation", "basis"], *wanted]
    _, text, _ = typed(capsys, *asked, "--db", grove, "--format", "markdown")
    assert text.splitlines()[2] == "| i8 | measured | 10 | Load sixteen bytes at a time |"
    _, text, _ = typed(capsys, *asked, "--db", grove)
    assert text.splitlines()[0].split() == ["implementation", "basis", "speedup", "idea"]


def test_nothing_found_is_no_failure(grove: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "speedup > 99", "--db", grove) == (0, "nothing found\n", "")
    assert typed(capsys, "speedup > 99", "--db", grove, "--json") == (0, "[]\n", "")


def test_the_sql_shown_is_the_sql_that_answers(grove: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = typed(capsys, "speedup > 3 and model = openai:large", "--sql", "--json", "--db", grove)
    shown = json.loads(text)
    assert "openai" not in shown["sql"] and shown["values"] == [3, "openai:large"]
    _, text, _ = typed(capsys, "--raw", shown["sql"].replace("?", "3", 1).replace("?", "'openai:large'"), "--db", grove)
    assert [line.split()[0] for line in text.splitlines()] == ["implementation", "i3", "i4", "i5", "i8"]
    _, text, _ = typed(capsys, "best", "--sql", "--db", grove)
    assert text.rstrip().endswith("-- ?1 is 1")


def test_sql_of_ones_own(grove: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.sql").write_text("SELECT count(*) AS n FROM node")
    assert json.loads(typed(capsys, "--sql-file", str(tmp_path / "q.sql"), "--json", "--db", grove)[1]) == [{"n": 8}]
    code, _, said = typed(capsys, "--raw", "DELETE FROM node", "--db", grove)
    assert (code, said) == (2, "error: A query only reads, and this SQL would do more. Write a SELECT.\n")


@pytest.mark.parametrize(
    "words, says",
    [
        (["speedp > 1"], "column 1, at 'speedp'"),
        (["", "--raw", "SELECT 1"], "A query is given once"),
        (["--raw", "SELECT 1", "--limit", "1"], "not for SQL of your own"),
        (["", "--columns", ","], "names no field"),
        (["", "--columns", "speedpu"], "Did you mean speedup"),
        (["count by model", "--columns", "outcome"], "There is: count, example, model."),
        (["", "--sort", "speedup:up"], "--sort speedup:desc"),
        (["", "--json", "--format", "csv"], "contradict"),
        (["--sql-file", "/no/such/file"], "There is no SQL file"),
        (["", "--db", "/no/such/grove.db"], "is not there"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    grove: str, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    code, out, said = typed(capsys, *([] if "--db" in words else ["--db", grove]), *words)
    assert (code, out) == (2, "") and says in said and said.count("\n") == 1


def test_fields_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(typed(capsys, "--fields", "--of", "completions", "--json")[1])
    assert [row["field"] for row in rows] == list(RELATIONS["completions"].fields)


# ------------------------------------------------------------------------------------------------- the page


def _examples() -> list[tuple[list[str], str]]:
    """(words after ``query``, what is printed) of each example of the page."""
    blocks = re.findall(r"```console\n\$ kernelgrove query (.*?)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [(shlex.split(command), printed) for command, printed in blocks]


def test_every_example_of_the_page_is_a_query() -> None:
    examples = _examples()
    assert len(examples) >= 14 and all(printed for _, printed in examples)
    for words, _ in examples:
        of = words[words.index("--of") + 1] if "--of" in words else "implementations"
        if "--raw" not in words and "speedp" not in words[0]:
            translate(parse(words[0]), Wanted(of))


def test_the_page_lists_every_field() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## Fields")[2], re.MULTILINE))
    assert listed == {name for relation in RELATIONS.values() for name in relation.fields}
