"""Texts are parsed one at a time, whoever asks: CPython 3.11 cannot do two."""

from __future__ import annotations

import ast
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernelgrove.problems import parsing


def test_one_thread_parses_at_a_time(monkeypatch: pytest.MonkeyPatch):
    inside, most = 0, 0
    lock, stock = threading.Lock(), ast.parse

    def parse(source: str) -> ast.Module:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1
        return stock(source)

    monkeypatch.setattr(parsing.ast, "parse", parse)
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(parsing.parse, ["x = 1"] * 8))) == 8
    assert most == 1


def test_an_invalid_escape_is_no_warning(recwarn: pytest.WarningsRecorder):
    assert isinstance(parsing.parse("x = '\\d'"), ast.Module) and not recwarn.list
    with pytest.raises(SyntaxError):
        parsing.parse("x =")
