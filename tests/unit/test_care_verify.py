"""``verify`` finds what is wrong, says where, and finds nothing wrong with what searches leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_search import FakeProposer, controller
from groves import ask, change, finished

from kernelgrove import cli
from kernelgrove.engine.budget import Budget
from kernelgrove.errors import ProposerError
from kernelgrove.model import JobKind
from kernelgrove.storage import open_store


@pytest.fixture
def grove(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


def findings(grove: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = cli.run(["verify", "--db", str(grove), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (1 if document["findings"] else 0)
    assert document["sound"] is not bool(document["findings"])
    return [f"{finding['check']}: {finding['says']}" for finding in document["findings"]]


def test_a_finished_search_is_sound(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(grove, capsys) == []
    assert cli.run(["verify", "--db", str(grove)]) == 0
    assert "is sound (15 checks)" in capsys.readouterr().out


def test_searches_that_stopped_in_the_middle_are_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grove.db"
    with open_store(path, create=True) as store:
        controller(store, budget=Budget(evaluations=2)).run()
        proposer = FakeProposer(raises=lambda r: ProposerError("no") if r.kind is JobKind.IMPLEMENT else None)
        controller(store, proposer).run()
        stopped = controller(store, FakeProposer(delay=lambda _: 0.05))
        stopped.stop_now()
        stopped.run()
    assert findings(path, capsys) == []


CODE_HAS_CHANGED = (
    "DROP TRIGGER program_never_changes",
    "UPDATE program SET code = code || char(10) || 'import os' WHERE id = 2",
    "INSERT INTO code_fts(code_fts) VALUES ('rebuild')",
)

WRONG = {
    "a program's text": (
        CODE_HAS_CHANGED,
        "programs: program 2 is not the text that its hash",
    ),
    "a problem's text": (("UPDATE problem SET source = 'x'",), "problems: problem 1 (toy) is not the text"),
    "no program": (
        ("DELETE FROM program WHERE hash = (SELECT program FROM implementation WHERE id = 3)",),
        "implementations without a program: i3 has no program",
    ),
    "no search": (("UPDATE job SET search_id = 99 WHERE id = 1",), "references: job 1: search_id refers to a search"),
    "evaluation of another program": (
        (
            "UPDATE implementation SET evaluation_id = (SELECT id FROM evaluation WHERE program <> "
            "(SELECT program FROM implementation WHERE id = 1)) WHERE id = 1",
        ),
        "evaluations of other programs: i1 counts e",
    ),
    "duplicate of another program": (
        ("UPDATE implementation SET duplicate_of = 1 WHERE id = 4",),
        "duplicates of other programs: i4 is marked as a duplicate of i1, which is another program",
    ),
    "an evaluation is gone": (
        (
            "DROP TRIGGER evaluation_never_goes",
            "UPDATE implementation SET evaluation_id = NULL WHERE evaluation_id = 2",
            "DELETE FROM evaluation WHERE id = 2",
        ),
        "evaluations that were done and are not there: t",
    ),
    "a lease of nobody": (
        ("UPDATE job SET state = 'leased', owner = NULL WHERE id = 2",),
        "leases without an owner: t2 is leased to nobody",
    ),
    "finished with a lease": (
        ("UPDATE job SET state = 'leased', owner = 'a', lease_until = 1 WHERE id = 2",),
        "finished searches with work left: s1 is finished, and t2 (",
    ),
    "finished with queued jobs": (
        (
            "UPDATE job SET state = 'queued' WHERE id = 3",
            "DELETE FROM decision WHERE actions LIKE '%stop%'",
        ),
        "finished searches with work left: s1 is finished, and t3 (",
    ),
    "two roots": (
        ("UPDATE node SET parent_id = NULL WHERE id = 2",),
        "trees that do not hang together: s1 has 2 roots instead of one",
    ),
    "a circle": (
        ("UPDATE node SET parent_id = 3 WHERE id = 2",),
        "trees that do not hang together: n2 hangs under n3, which is not older",
    ),
    "a step": (("DELETE FROM decision WHERE step = 1",), "steps that are missing: s1 has "),
    "a figure of a failure": (
        (
            "DROP TRIGGER evaluation_never_changes",
            "UPDATE evaluation SET speedup_eager = 9 WHERE outcome = 'wrong_result'",
        ),
        "figures of failures: e",
    ),
    "ideas out of step": (
        ("DROP TRIGGER node_in_fts", "UPDATE node SET idea = 'another' WHERE id = 2"),
        "full text: idea_fts is not in step with the text it indexes: rebuild it with INSERT INTO idea_fts(idea_fts)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found(what: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statements, says = WRONG[what]
    change(grove, *statements)
    found = findings(grove, capsys)
    assert any(line.startswith(says) for line in found), found


def test_each_is_one_line_and_the_cure_is_said(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(grove, "UPDATE job SET state = 'leased', owner = NULL WHERE id = 2")
    assert cli.run(["verify", "--db", str(grove)]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "file: CHECK constraint failed in job",
        "leases without an owner: t2 is leased to nobody",
        "finished searches with work left: s1 is finished, and t2 (evaluate) is leased",
    ]
    assert "Restore a backup" in said.err


def test_rebuilding_as_it_says_mends_full_text(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(grove, *WRONG["ideas out of step"][0])
    (line,) = findings(grove, capsys)
    change(grove, line.partition("rebuild it with ")[2])
    assert findings(grove, capsys) == []


def test_many_of_a_kind_are_counted(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = ask(grove, "SELECT count(*) FROM job")[0][0]
    assert jobs > 21
    change(grove, "UPDATE job SET state = 'leased', owner = ''")
    leased = [line for line in findings(grove, capsys) if line.startswith("leases without")]
    assert len(leased) == 21 and leased[-1].endswith(f"and {jobs - 20} more like these")


def test_hashes_of_another_python_are_no_findings(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(grove, *CODE_HAS_CHANGED, """UPDATE device SET software = '{"python": "3.1.4"}'""")
    assert cli.run(["verify", "--db", str(grove)]) == 0
    assert "note: 1 programs have another hash under Python" in capsys.readouterr().err


def test_verifying_writes_nothing(grove: Path) -> None:
    before = grove.read_bytes()
    grove.chmod(0o444)
    assert cli.run(["verify", "--db", str(grove)]) == 0
    assert grove.read_bytes() == before
