"""A judge answers every question that a pool asked, whatever becomes of the work."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from kernelgrove.engine.evaluator import judge
from kernelgrove.engine.evaluator.wire.protocol import receive_stream, send_stream
from kernelgrove.model import Basis, Device


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """Ask a judge that serves in a thread; ``prepare`` does what ``ask.does`` says."""
    answers = SimpleNamespace(does=lambda: {})

    class Stub:
        bench = SimpleNamespace(enter=lambda: None)

        def __init__(self, **opening: Any) -> None:
            pass

        def device(self) -> Device:
            return Device("cpu", "H100", "cpu->H100", Basis.PROJECTED, {})

        def close(self) -> None:
            pass

    ended = threading.Event()
    monkeypatch.setattr(judge, "Judge", Stub)
    monkeypatch.setattr(judge, "_work", lambda *_: answers.does())
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's main thread keeps its handlers
    monkeypatch.setattr(os, "_exit", lambda _: ended.set())
    ours, theirs = socket.socketpair()
    threading.Thread(target=judge.serve, args=(theirs.detach(),), daemon=True).start()
    send_stream(ours, {"parallel": 1})
    assert receive_stream(ours)["ok"]["name"] == "cpu"

    def one(does: Any) -> dict[str, Any]:
        answers.does = does
        send_stream(ours, {"id": 7, "op": "prepare"})
        ours.settimeout(10)
        return receive_stream(ours)

    yield one
    ours.close()
    assert ended.wait(10)


def raising(error: BaseException) -> Any:
    def work() -> dict[str, Any]:
        raise error

    return work


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (lambda: {"time_ms": float("nan")}, "ValueError"),
        (lambda: {"error": {1, 2}}, "TypeError"),
        (raising(SystemExit(0)), "SystemExit"),
        (raising(KeyError("kind")), "KeyError"),
        (raising(ValueError("\ud800")), "ValueError"),
    ],
)
def test_a_question_is_answered(ask: Any, does: Any, says: str):
    answer = ask(does)
    assert answer["id"] == 7 and answer["error"] == "EvaluatorError" and says in answer["cause"]
    assert ask(lambda: {"fine": 1})["ok"] == {"fine": 1}
