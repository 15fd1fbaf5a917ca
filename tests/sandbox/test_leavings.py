"""What a worker left on disk is removed however it is made; of it only the worker's own plain files are copied."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.sandbox import Copier, Home, remove, sweep

ROOT = os.geteuid() == 0


def nest(top: Path, depth: int, name: str = "d") -> None:
    """*depth* folders inside each other, by descriptors: no path that long can be named."""
    inside = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=inside)
        below = os.open(name, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
    os.close(inside)


def test_folders_of_any_depth_mode_and_content_are_removed(tmp_path: Path):
    top, outside = tmp_path / "top", tmp_path / "outside"
    top.mkdir(), outside.mkdir()
    (outside / "kept").write_text("x")
    nest(top, 1200)
    nest(top, 40, "n" * 255)
    (top / "wide").mkdir()
    for number in range(500):
        (top / "wide" / f"{number}\n\udcff").touch()
    (top / "link").symlink_to(outside)
    (top / "wide" / "link").symlink_to(outside / "kept")
    os.mkfifo(top / "pipe")
    (top / "locked" / "inner").mkdir(parents=True)
    (top / "locked" / "inner").chmod(0)
    (top / "locked").chmod(0)
    remove(top)
    assert not top.exists() and (outside / "kept").read_text() == "x"
    remove(top)  # there is nothing to do, nor to complain about
    (tmp_path / "to").symlink_to(outside)
    remove(tmp_path / "to")
    assert (outside / "kept").exists()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_plain_files_are_copied_with_times_and_modes(tmp_path: Path):
    source, target = tmp_path / "scratch", tmp_path / "kept"
    (source / "triton" / "hash").mkdir(parents=True)
    (source / "triton" / "hash" / "launcher.so").write_bytes(b"code")
    (source / "triton" / "hash" / "launcher.so").chmod(0o4755)
    os.utime(source / "triton" / "hash" / "launcher.so", ns=(5, 7_000_000_123))
    (source / "other").mkdir()
    (source / "other" / "file").touch()
    Copier(os.getuid(), 100, 100).copy(source, ("triton", "extensions"), target)
    copied = target / "triton" / "hash" / "launcher.so"
    assert tree(target) == {"triton/hash/launcher.so"} and copied.read_bytes() == b"code"
    assert copied.stat().st_mode & 0o7777 == 0o755 and copied.stat().st_mtime_ns == 7_000_000_123


def test_files_beside_the_folders_of_a_cache_are_not_copied(tmp_path: Path):
    (tmp_path / "scratch" / "triton" / "key").mkdir(parents=True)
    (tmp_path / "scratch" / "triton" / "notes").touch()
    (tmp_path / "scratch" / "triton" / "key" / "kernel.cubin").touch()
    Copier(os.getuid(), 100, 100, shallowest=2).copy(tmp_path / "scratch", ("triton",), tmp_path / "kept")
    assert tree(tmp_path / "kept") == {"triton/key/kernel.cubin"}


def test_nothing_else_is_copied(tmp_path: Path):
    source, target, outside = tmp_path / "scratch", tmp_path / "kept", tmp_path / "outside"
    (outside / "in").mkdir(parents=True)
    (outside / "in" / "key").write_text("secret")
    folder = source / "triton"
    folder.mkdir(parents=True)
    (source / "extensions").symlink_to(outside)  # a whole tree in the place of a cache
    (folder / "link").symlink_to(outside / "in" / "key")
    (folder / "linked").symlink_to(outside / "in")
    (folder / "second").hardlink_to(outside / "in" / "key")
    os.mkfifo(folder / "pipe")
    nest(folder, 1200)
    (folder / "large").write_bytes(bytes(101))
    for number in range(9):
        (folder / f"small{number}").write_bytes(bytes(60))
    Copier(os.getuid(), 100, 1000).copy(source, ("triton", "extensions"), target)
    assert len(tree(target)) == 1 and not [p for p in target.rglob("*") if p.is_file() and p.read_bytes()[:1] == b"s"]
    Copier(os.getuid(), 1 << 20, 5).copy(source, ("triton",), tmp_path / "few")
    assert len(tree(tmp_path / "few")) <= 5
    remove(folder)  # pytest could not


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_files_of_other_users_are_not_copied(tmp_path: Path):
    source = tmp_path / "scratch"
    (source / "triton").mkdir(parents=True)
    for name, owner in (("own", 64100), ("foreign", 0)):
        (source / "triton" / name).touch()
        os.chown(source / "triton" / name, owner, owner)
    os.chown(source / "triton", 64100, 64100)
    Copier(64100, 100, 100).copy(source, ("triton",), tmp_path / "kept")
    assert tree(tmp_path / "kept") == {"triton/own"}
    Copier(0, 100, 100).copy(source, ("triton",), tmp_path / "none")
    assert tree(tmp_path / "none") == set()


def test_homes_of_the_dead_are_swept_and_those_of_the_living_kept():
    code = "from kernelgrove.engine.evaluator.sandbox import Home; import time\n"
    code += "home = Home(); print(home.path, flush=True); time.sleep(60)"
    dead, living = (subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2))
    paths = [Path(process.stdout.readline().strip()) for process in (dead, living) if process.stdout]
    (paths[0] / "left").mkdir()
    dead.kill()
    dead.wait()
    own, link = Home(), Path(tempfile.gettempdir(), f"kernelgrove-scratch-{os.getpid()}-link")
    link.symlink_to(own.path)
    try:
        sweep()
        assert not paths[0].exists() and paths[1].exists() and own.path.exists()
    finally:
        link.unlink()
        own.remove()
        living.kill()
        living.wait()
    sweep()
    assert not paths[1].exists() and not own.path.exists()
