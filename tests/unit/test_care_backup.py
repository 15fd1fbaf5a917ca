"""``backup`` copies one state of a grove that is being written to; ``gc`` drops only what nothing refers to."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from fake_search import DEVICE, FakeEvaluator, FakeProposer, controller
from groves import ask, change, finished

from kernelgrove import cli
from kernelgrove.model import Device, JobKind
from kernelgrove.ports import CodeResult, PlannedJob
from kernelgrove.storage import documents, open_store
from kernelgrove.storage.searches import device_id


@pytest.fixture
def grove(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


def test_a_backup_is_the_same_grove_in_one_file(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = grove.with_name("copy.db")
    assert cli.run(["backup", str(to), "--db", str(grove), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"backup": str(to), "bytes": to.stat().st_size}
    with open_store(grove) as here, open_store(to) as there:
        assert here.tree(1) == there.tree(1)
        assert documents.best(here, 1) == documents.best(there, 1)
    assert cli.run(["verify", "--db", str(to)]) == 0
    assert not [path.name for path in to.parent.iterdir() if path.name.startswith(".")]


def test_what_is_in_the_log_alone_is_copied(grove: Path) -> None:
    to = grove.with_name("copy.db")
    with open_store(grove) as store:
        store.add_elapsed(1, 1000.0)  # not checkpointed: it lies in the -wal file
        assert cli.run(["backup", str(to), "--db", str(grove)]) == 0
    assert ask(to, "SELECT elapsed_s > 1000 FROM search") == [(1,)]


def test_while_a_search_writes(tmp_path: Path) -> None:
    path = tmp_path / "grove.db"
    with open_store(path, create=True) as store:
        search = controller(store, FakeProposer(delay=lambda _: 0.02), FakeEvaluator(delay=lambda _: 0.02))
        running = threading.Thread(target=search.run)
        running.start()
        copies = 0
        while running.is_alive() and copies < 5:
            to = tmp_path / f"copy{copies}.db"
            assert cli.run(["backup", str(to), "--db", str(path)]) == 0
            copies += 1
        running.join()
        assert copies >= 2
    sizes = []
    for number in range(copies):
        copy = tmp_path / f"copy{number}.db"
        assert cli.run(["verify", "--db", str(copy)]) == 0
        sizes.append(ask(copy, "SELECT count(*) FROM job")[0][0])
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("what", ["file", "link", "itself"])
def test_nothing_is_overwritten(what: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = grove if what == "itself" else grove.with_name("copy.db")
    if what == "file":
        to.write_text("mine")
    if what == "link":
        to.symlink_to("nowhere")
    before = grove.read_bytes()
    assert cli.run(["backup", str(to), "--db", str(grove)]) == 2
    assert "exists already, and a backup overwrites nothing" in capsys.readouterr().err
    assert grove.read_bytes() == before and (what != "file" or to.read_text() == "mine")


def test_a_folder_that_is_not_there(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["backup", str(grove.with_name("no") / "copy.db"), "--db", str(grove)]) == 2
    assert "there is no folder" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- gc


def leave_unused(path: Path) -> None:
    """A program, a device and a problem that nothing refers to."""
    with open_store(path) as store, store.write() as connection:
        device_id(connection, Device("cuda:0", "H200", "NVIDIA H200", DEVICE.basis))
    change(
        path,
        "INSERT INTO program (hash, code, created_at) VALUES ('feed', 'lonely = 1', 0)",
        "INSERT INTO problem (digest, name, source, sizes, mode) VALUES ('d', 'lonely', 'x', '{}', 'train')",
    )


def test_gc_of_a_search_drops_nothing(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["gc", "--db", str(grove)]) == 0
    assert capsys.readouterr().out == "0 were dropped\n"


def test_gc_drops_what_nothing_refers_to(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_unused(grove)
    tables = ("program", "device", "problem", "implementation", "evaluation", "node", "job")
    counts = {table: ask(grove, f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    assert cli.run(["gc", "--dry-run", "--db", str(grove)]) == 0
    said = capsys.readouterr().out
    assert "feed" in said and "cuda:0 for H200" in said and "lonely" in said and "3 would be dropped" in said
    assert {table: ask(grove, f"SELECT count(*) FROM {table}")[0][0] for table in tables} == counts
    assert cli.run(["gc", "--json", "--db", str(grove)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dropped"] and [row["table"] for row in document["unused"]] == ["program", "device", "problem"]
    expected = {**counts, **{table: counts[table] - 1 for table in ("program", "device", "problem")}}
    assert {table: ask(grove, f"SELECT count(*) FROM {table}")[0][0] for table in tables} == expected
    assert cli.run(["verify", "--db", str(grove)]) == 0, "full text is in step"


def test_a_program_that_only_a_job_names_stays(grove: Path) -> None:
    change(
        grove,
        "INSERT INTO program (hash, code, created_at) VALUES ('feed', 'wanted = 1', 0)",
        """UPDATE job SET payload = '{"program": "feed"}' WHERE id = (SELECT max(id) FROM job)""",
    )
    assert cli.run(["gc", "--db", str(grove)]) == 0
    assert ask(grove, "SELECT count(*) FROM program WHERE hash = 'feed'") == [(1,)]


def test_vacuum_gives_space_back_and_keeps_full_text_in_step(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "x = 1\n" * 200_000
    change(grove, f"INSERT INTO program (hash, code, created_at) VALUES ('feed', '{code}', 0)")
    before = grove.stat().st_size
    assert cli.run(["gc", "--vacuum", "--json", "--db", str(grove)]) == 0
    old, new = json.loads(capsys.readouterr().out)["bytes"]
    assert new == grove.stat().st_size < before / 2 and old >= before
    assert cli.run(["verify", "--db", str(grove)]) == 0


def test_gc_beside_a_search_keeps_what_it_is_about_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "grove.db"
    with open_store(path, create=True) as store:
        search = controller(store).search_id
        root = store.tree(search).root
        store.record(search, 0, [], [PlannedJob(JobKind.IMPLEMENT, "k", {"variant": 0}, node=root)])
        job = store.claim(search, "me", [JobKind.IMPLEMENT], 60)
        assert job is not None and store.finish(job, CodeResult("x = 1", "m"))
        assert cli.run(["gc", "--db", str(path)]) == 0
        assert store.code(next(iter(store.tree(search).implementations.values())).program) == "x = 1"
