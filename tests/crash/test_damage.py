"""A damaged file: one sentence from every command, no traceback, and nothing made worse."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from groves import finished

from kernelgrove import cli
from kernelgrove.storage import open_store


@pytest.fixture
def grove(tmp_path: Path) -> Path:
    return finished(tmp_path / "grove.db")


def page_of(path: Path, name: str) -> int:
    """The first page of a table or index, counted from 1."""
    raw = sqlite3.connect(path)
    try:
        return int(raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0])
    finally:
        raw.close()


def damage(path: Path, name: str) -> None:
    """Overwrite the first page of *name* with noise."""
    raw = sqlite3.connect(path)
    (size,) = raw.execute("PRAGMA page_size").fetchone()
    raw.close()
    page = page_of(path, name)
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes((7 * n + 3) % 251 for n in range(size)))


#: Commands that read the table that was damaged.
READING = {
    "node": ["tree", "show n1", "lineage i1", "stats", "tree --json", "best", "ls"],
    "program": ["show i1", "best", "diff i1 i2"],
    "evaluation": ["tree", "ls", "best", "stats", "lineage i2"],
}


@pytest.mark.parametrize(("table", "command"), [(t, c) for t, commands in READING.items() for c in commands])
def test_a_command_says_so_in_one_sentence(
    table: str, command: str, grove: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(grove, table)
    assert cli.run([*command.split(), "--db", str(grove)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith(f"error: {grove} is damaged (")
    assert "save what can be read with `kernelgrove export`" in said.err


@pytest.mark.parametrize("table", ["node", "program", "evaluation", "job", "ix_node_parent_id", "idea_fts_data"])
def test_verify_finds_it(table: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(grove, table)
    before = grove.read_bytes()
    assert cli.run(["verify", "--db", str(grove)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("file: ") and "export" in said.err
    assert grove.read_bytes() == before


def test_what_lies_elsewhere_can_be_read(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(grove, "job")
    for command in ("ls", "best", "show i1", "lineage i2", "diff i1 i2"):
        assert cli.run([*command.split(), "--db", str(grove)]) == 0, command
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("part", ["ix_node_parent_id", "idea_fts_data", "code_fts_data"])
def test_damage_in_what_is_derived_is_healed_by_export_and_import(part: str, grove: Path) -> None:
    damage(grove, part)
    lines, healed = grove.with_name("grove.jsonl"), grove.with_name("healed.db")
    assert cli.run(["export", "--grove", "-o", str(lines), "--db", str(grove)]) == 0
    assert cli.run(["import", str(lines), "--db", str(healed)]) == 0
    assert cli.run(["verify", "--db", str(healed)]) == 0
    with open_store(finished(grove)) as whole, open_store(healed) as store:
        assert store.tree(1) == whole.tree(1)


@pytest.mark.parametrize("table", ["node", "program", "implementation", "evaluation", "job", "decision", "device"])
def test_the_rest_is_salvaged_as_a_sound_grove(table: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(grove) as store:
        whole = store.tree(1)
    damage(grove, table)
    lines, healed = grove.with_name("grove.jsonl"), grove.with_name("healed.db")
    assert cli.run(["export", "--salvage", "-o", str(lines), "--db", str(grove)]) == 0
    said = capsys.readouterr().err
    assert f"lost: {table}: " in said and "mended: " in said and "Traceback" not in said
    assert cli.run(["import", str(lines), "--db", str(healed)]) == 0
    assert cli.run(["verify", "--db", str(healed)]) == 0
    with open_store(healed) as store:
        view = store.tree(1)
        kept = {made.program for made in view.implementations.values()}
        if table not in ("program", "implementation"):
            assert kept == {made.program for made in whole.implementations.values()}
        if table not in ("program", "implementation", "evaluation"):
            assert view.best(3) and [made.time_ms for made in view.best(3)] == [made.time_ms for made in whole.best(3)]
        if table != "node":
            assert [node.idea for node in view.nodes.values()] == [node.idea for node in whole.nodes.values()]


@pytest.mark.parametrize("table", ["evaluation", "completion", "job"])
def test_only_the_rows_of_a_damaged_page_are_lost(table: str, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(grove)) as file:
        try:
            sql = "SELECT pageno, ncell FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
            leaves = file.execute(sql, (table,)).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("this SQLite does not say which pages a table has (dbstat)")
        (count,) = file.execute(f"SELECT count(*) FROM {table}").fetchone()
    page, rows = leaves[len(leaves) // 2]
    assert 0 < rows < count
    with grove.open("r+b") as file_:
        file_.seek((page - 1) * 4096)
        file_.write(random.Random(1).randbytes(4096))
    lines = grove.with_name("grove.jsonl")
    assert cli.run(["export", "--salvage", "-o", str(lines), "--json", "--db", str(grove)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][table] == count - rows


@pytest.mark.parametrize("seed", range(6))
def test_any_page_may_be_damaged(seed: int, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever page it is, the rest comes out sound, or one sentence says why nothing does."""
    data = grove.read_bytes()
    page = random.Random(seed).randrange(1, len(data) // 4096)
    noise = random.Random(-seed).randbytes(4096)
    grove.write_bytes(data[: page * 4096] + noise + data[(page + 1) * 4096 :])
    lines, healed = grove.with_name("grove.jsonl"), grove.with_name("healed.db")
    code = cli.run(["export", "--salvage", "-o", str(lines), "--db", str(grove)])
    said = capsys.readouterr().err
    if code != 0:
        assert code == 2 and said.startswith(f"error: {grove} is damaged") and len(said.splitlines()) == 1
        assert not lines.exists()
        return
    assert cli.run(["import", str(lines), "--db", str(healed)]) == 0
    assert cli.run(["verify", "--db", str(healed)]) == 0


def test_salvage_of_a_sound_grove_loses_nothing(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported, salvaged = grove.with_name("all.jsonl"), grove.with_name("salvaged.jsonl")
    assert cli.run(["export", "--grove", "-o", str(exported), "--db", str(grove)]) == 0
    assert cli.run(["export", "--salvage", "-o", str(salvaged), "--db", str(grove)]) == 0
    assert exported.read_bytes() == salvaged.read_bytes()
    assert "nothing was lost" in capsys.readouterr().err
    assert cli.run(["export", "s1", "--salvage", "--db", str(grove)]) == 2


def test_with_a_table_gone_the_kernels_and_figures_can_be_saved(grove: Path) -> None:
    damage(grove, "job")
    assert cli.run(["export", "--format", "csv", "-o", str(grove.with_name("s1.csv")), "--db", str(grove)]) == 0
    folder = grove.with_name("kernels")
    assert cli.run(["export", "--format", "kernelbench", "--all", "-o", str(folder), "--db", str(grove)]) == 0
    assert list(folder.glob("*_kernel.py"))


def test_a_damaged_grove_is_not_backed_up_as_if_it_were_sound(grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(grove, "program")
    assert cli.run(["backup", str(grove.with_name("copy.db")), "--db", str(grove)]) == 2
    assert "is damaged, so there is no backup of it" in capsys.readouterr().err
    assert sorted(path.name for path in grove.parent.iterdir() if "copy" in path.name) == []


@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_a_file_that_was_cut_off(keep: float, grove: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = grove.read_bytes()
    grove.write_bytes(whole[: int(len(whole) * keep) // 4096 * 4096])
    code = cli.run(["verify", "--db", str(grove)])
    said = capsys.readouterr()
    assert code in (1, 2) and "Traceback" not in said.err + said.out
    assert said.out.startswith("file: ") or "is damaged" in said.err


def test_an_intact_copy_beside_it_is_not_touched(grove: Path) -> None:
    copy = grove.with_name("kept.db")
    shutil.copyfile(grove, copy)
    damage(grove, "node")
    assert cli.run(["verify", "--db", str(copy)]) == 0
