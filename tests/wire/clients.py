"""Proposers of each provider with the real SDK in front of a fake server, and answers that hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fake_server import Asked, FakeServer, Say, Step

from kernelgrove.engine.proposers.base import make
from kernelgrove.engine.proposers.language import LanguageModel

#: What a test's own price file says of each fake model: dollars for a million tokens.
PRICES = """
["openai:fake"]
input = 2.0
cached_input = 0.2
cache_write = 2.5
output = 10.0
["openai-compatible:fake"]
input = 2.0
cached_input = 0.2
output = 10.0
["google:fake"]
input = 2.0
cached_input = 0.2
output = 10.0
["anthropic:fake"]
input = 2.0
cached_input = 0.2
cache_write = 2.5
output = 10.0
"""

CANARY = "sk-canary-7f3a91c2e8"

KEYS = ("OPENAI_API_KEY", "OPENAI_COMPATIBLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY")


def environment(monkeypatch: pytest.MonkeyPatch, folder: Any, key: str = CANARY) -> None:
    """Keys and prices for the fakes; nothing of the machine's own."""
    for name in KEYS:
        monkeypatch.setenv(name, key)
    for name in ("GOOGLE_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    path = folder / "prices.toml"
    path.write_text(PRICES)
    monkeypatch.setenv("KERNELGROVE_PRICES", str(path))


def options(server: FakeServer, **settings: Any) -> dict[str, Any]:
    """Options of a search that reach *server* under its provider's name."""
    name = server.dialect.name
    base = server.address + ("/v1" if name.startswith("openai") else "")
    table = {"base_url": base, "timeout_s": 1.0, "deadline_s": 5.0, **settings}
    return {"providers": {name: table}, "max_output_tokens": 4000}


def proposer(server: FakeServer, more: Mapping[str, Any] | None = None, **settings: Any) -> LanguageModel:
    made = make(f"{server.dialect.name}:fake", {**options(server, **settings), **(more or {})})
    assert isinstance(made, LanguageModel)
    return made


def program(fate: str) -> str:
    """A program whose fate the fake evaluator reads off its text."""
    return f"# a kernel\n'{fate}'\n\n\nclass ModelNew:\n    pass\n"


def good_answer(asked: Asked, number: int, fate: Callable[[Asked, int], str] | None = None) -> Say:
    """Ideas where ideas are asked for, else a program in a fence."""
    wanted = re.search(r"Name (\d+) ideas?\b", asked.prompt)
    if wanted:
        ideas = [
            {"text": f"idea {number}.{i}: walk rows in tiles", "rationale": "fewer bytes", "category": "tiling"}
            for i in range(int(wanted[1]))
        ]
        return Say(json.dumps({"ideas": ideas}), cached=600, reasoning=40)
    told = fate(asked, number) if fate else f"ok {1 + number / 1000:.4f} {number}"
    return Say(f"Here it is:\n\n```python\n{program(told)}```\n", output_tokens=400, cached=600, reasoning=100)


def always(step: Step) -> Callable[[Asked, int], Step]:
    return lambda asked, number: step
