"""One pool a device for all that is judged here: starting one costs more than most candidates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelgrove.engine.evaluator.pool import Pool
from kernelgrove.engine.evaluator.sandbox import identity


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--judged",
        type=lambda text: Path(text).resolve(),
        metavar="FILE",
        help="append what came of each file of the corpus: a line of JSON each (benchmarks/evaluator/corpus.py)",
    )


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def pool(device: str) -> Iterator[Pool]:
    with Pool(device, parallel=4) as pool:
        yield pool


@pytest.fixture
def own_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Private users that no other process claims: which one is free hangs on this test alone."""
    if os.geteuid() != 0:
        pytest.skip("private users need root")
    monkeypatch.setattr(identity, "_FIRST_PRIVATE_UID", 64900 + os.getpid() % 60 * 10)
    monkeypatch.setattr(identity, "_PRIVATE_UIDS", 10)
