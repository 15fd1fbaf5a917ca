"""Values as people type them: durations, lists, key=value, manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernelgrove.commands import parse
from kernelgrove.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400)]
)
def test_seconds(text: str, expected: float) -> None:
    assert parse.seconds(text, "--timeout") == expected


@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "5 minutes", "1x", "nan", "inf"])
def test_seconds_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        parse.seconds(text, "--timeout")


def test_nothing_given_stays_nothing() -> None:
    assert parse.seconds(None, "--timeout") is None
    assert parse.integers(None, "--width") is None
    assert parse.assignments(None) == {}


def test_integers() -> None:
    assert parse.integers("3,4,4,5", "--width") == (3, 4, 4, 5)
    assert parse.integers("3", "--width") == (3,)


@pytest.mark.parametrize("text", ["", "3,", "three", "0", "3,-1", "1.5"])
def test_integers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--width 3,4,4,5"):
        parse.integers(text, "--width")


def test_assignments_read_json_lists_and_text() -> None:
    found = parse.assignments(["rounds=3", "widths=3,4", "prune=false", "top-k=2", "note=a=b"])
    assert found == {"rounds": 3, "widths": [3, 4], "prune": False, "top_k": 2, "note": "a=b"}


@pytest.mark.parametrize("pair", ["rounds", "=3", "a b=3"])
def test_assignment_without_key_or_value(pair: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse.assignments([pair])


def test_a_manifest_finds_its_files_beside_it(tmp_path: Path) -> None:
    line = {"problem": "softmax", "candidate": "a.py"}
    other = {"problem": "p.py", "candidate": "sub/b.py", "size": "small"}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(line) + "\n\n" + json.dumps(other) + "\n")
    first, second = parse.manifest(str(path))
    assert first == {"problem": "softmax", "candidate": str(tmp_path / "a.py")}
    assert second["problem"] == str(tmp_path / "p.py")
    assert second["candidate"] == str(tmp_path / "sub/b.py")
    assert second["size"] == "small"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("{", "line 1: not JSON"),
        ('{"problem": "a", "candidate": "b"}\n[]', "line 2"),
        ('{"problem": "a"}', "candidate"),
        ('{"problem": "a", "candidate": "b", "sise": "x"}', "'sise'"),
    ],
)
def test_a_manifest_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        parse.manifest(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfa")
    for name, says in (("none.py", "no candidate"), (".", "a folder"), ("latin", "not UTF-8")):
        with pytest.raises(UsageError, match=says):
            parse.read_text(str(tmp_path / name), "candidate")
