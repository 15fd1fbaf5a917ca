"""What a worker holds of the disk is found, with files that have lost their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.sandbox import Disk, disk, holds_more

MEBI = 1 << 20


def write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(bytes(size))
        os.fsync(file.fileno())


def test_files_folders_and_nameless_files_count(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "deep" / "er" / "file", 3 * MEBI)
    (tmp_path / "loop").symlink_to(tmp_path)
    os.truncate(os.open(tmp_path / "sparse", os.O_CREAT | os.O_WRONLY), 1 << 40)  # takes no room
    assert not holds_more(str(tmp_path), [], 4 * MEBI) and holds_more(str(tmp_path), [], 2 * MEBI)
    write(tmp_path / "nameless", 3 * MEBI)
    kept = os.open(tmp_path / "nameless", os.O_RDONLY)
    (tmp_path / "nameless").unlink()
    assert not holds_more(str(tmp_path), [], 4 * MEBI) and holds_more(str(tmp_path), [os.getpid()], 4 * MEBI)
    os.close(kept)
    assert not holds_more(str(tmp_path), [os.getpid(), 1 << 30], 4 * MEBI)
    assert not holds_more(str(tmp_path / "gone"), [], 0)


def test_what_cannot_be_measured_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inside = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=inside)
        inside = os.open("n" * 250, os.O_RDONLY, dir_fd=inside)
    assert holds_more(str(tmp_path), [], 1 << 40)
    for number in range(30):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(disk, "_MOST_FILES", 20)
    assert holds_more(str(tmp_path), [], 1 << 40)


def test_a_fall_is_told_once(monkeypatch: pytest.MonkeyPatch):
    free = [(100, 10**6)]
    monkeypatch.setattr(Disk, "_state", lambda _: free[0])
    watched = Disk("/")
    free[0] = (60, 10**6)
    assert not watched.lost(50)
    free[0] = (200, 10**6)
    assert not watched.lost(50)
    free[0] = (140, 10**6)
    assert watched.lost(50) and not watched.lost(50)
    free[0] = (140, 10**6 - 300_000)
    assert watched.lost(50)
