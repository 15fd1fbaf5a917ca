"""Values as people type them: key=value, files, manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernelgrove.commands import parse
from kernelgrove.errors import UsageError


def test_assignments_are_text_for_whoever_knows_the_key() -> None:
    found = parse.assignments(["rounds=3", "widths=3,4", "top-k= 2", "note=a=b"])
    assert found == {"rounds": "3", "widths": "3,4", "top_k": "2", "note": "a=b"}
    assert parse.assignments(None) == {}


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
